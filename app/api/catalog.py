"""What the service offers."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from app.api.responses import UNAUTHORIZED, example, problems
from app.deps import Caller
from app.domain.catalog import TABLES
from app.domain.spec import CompressionSpec
from app.schemas.catalog import Catalog, Method

router = APIRouter(tags=["catalogue"])


def _example() -> dict[str, Any]:
    """The first row of each table, without the schema of the spec, which is long."""
    first = {name: [next(iter(rows.values())).to_dict()] for name, rows in TABLES.items()}
    return {**first, "spec": {"title": "CompressionSpec", "type": "object"}}


@router.get(
    "/catalog",
    summary="What a job may ask for",
    responses={200: example(_example()), **problems(UNAUTHORIZED, instance="/catalog")},
)
def get_catalog(_: Caller) -> Catalog:
    """Every criterion, pruner, recovery and benchmark, with its paper and the JSON schema of its options."""
    tables = {name: [Method(**row.to_dict()) for row in rows.values()] for name, rows in TABLES.items()}
    return Catalog(**tables, spec=CompressionSpec.model_json_schema())
