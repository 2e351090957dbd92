"""What the service offers."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from typing import Any

from fastapi import APIRouter

from app.api.responses import UNAUTHORIZED, Tag, example, problems
from app.deps import Caller
from secateur.contract.catalog import TABLES
from secateur.contract.presets import PRESETS
from secateur.contract.spec import CompressionSpec
from secateur.contract.sweep_presets import SWEEP_PRESETS
from secateur.schemas.catalog import Catalog, Method, Preset, SweepPreset

TAG = Tag("catalogue", "What a job may ask for.", place=6)
router = APIRouter(tags=[TAG.name])


def _example() -> dict[str, Any]:
    """The first row of each table, without the schema of the spec, which is long."""
    first = {name: [next(iter(rows.values())).to_dict()] for name, rows in TABLES.items()}
    presets = [asdict(next(iter(PRESETS.values())))]
    sweeps = [asdict(next(iter(SWEEP_PRESETS.values())))]
    return {
        "presets": presets,
        "sweep_presets": sweeps,
        **first,
        "spec": {"title": "CompressionSpec", "type": "object"},
    }


@router.get(
    "/catalog",
    summary="What a job may ask for",
    responses={200: example(_example()), **problems(UNAUTHORIZED, instance="/catalog")},
)
def get_catalog(_: Caller) -> Catalog:
    """Every method of each part of a job, with its paper and the JSON schema of its options, and the presets."""
    return _catalog()


@cache
def _catalog() -> Catalog:
    """It is the same for as long as the process lives, and a job's schema takes a tenth of a second to write."""
    tables = {name: [Method(**row.to_dict()) for row in rows.values()] for name, rows in TABLES.items()}
    presets = [Preset(**asdict(preset)) for preset in PRESETS.values()]
    sweeps = [SweepPreset.model_validate(asdict(preset)) for preset in SWEEP_PRESETS.values()]
    return Catalog(presets=presets, sweep_presets=sweeps, **tables, spec=CompressionSpec.model_json_schema())
