"""Every method of the catalogue runs in its stage: what the contract offers, the worker has, and nothing else.

Criteria are run by `tests/workers/engine/scoring/test_task.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from secateur.contract.catalog import PRUNERS, QUANTISATIONS, RECOVERIES
from secateur.contract.options.width import WidthMethod
from secateur.contract.spec import CompressionSpec
from tests.fixtures.tokenizers import WORDS, byte_level, write_model
from tests.fixtures.whole_job import SHORT_SPEC, Job
from workers.stages import prune, quantise
from workers.stages.prune_width import prune_units

FEW = {"samples": 4, "tokens": 16}
TRAINING = {key: value for key, value in SHORT_SPEC["recovery"].items() if key != "kind"}
# What each method must be told to be short.
SHORT: dict[str, dict[str, Any]] = {
    "depth": {"drop": [2]},
    "sub_block": {"units": 1, "calibration": FEW},
    "joint": {"target": {"parameters": 0.9}, "evaluations": 5, "calibration": FEW, "healing": FEW},
    "experts": {"experts": 1, "calibration": FEW},
    "vocabulary": {"tokens": 300, "text": {"source": "local", "path": "words.txt"}},
    "healing": FEW,
    "gptq": {"calibration": FEW},
}


def _short(kind: str, usual: dict[str, Any]) -> dict[str, Any]:
    return {"kind": kind, **SHORT.get(kind, usual)}


@pytest.fixture(name="root")
def _root(tiny_checkpoint: Callable[..., Path]) -> Path:
    return tiny_checkpoint(hidden_size=64, intermediate_size=96).parent


def _job(root: Path, **spec: Any) -> Job:
    body = {**SHORT_SPEC, "pruning": _short("depth", {}), **spec}
    if body["pruning"]["kind"] == "vocabulary":
        body = {**body, "recovery": {"kind": "none"}}
    return Job(root, CompressionSpec.model_validate(body), data_roots=(root,))


@pytest.mark.parametrize("kind", PRUNERS)
def test_every_way_to_prune(kind: str, root: Path, tiny_checkpoint: Callable[..., Path]) -> None:
    if kind == "experts":
        tiny_checkpoint(model_type="mixtral", num_local_experts=4)  # in the place of the model that has none
    if kind == "vocabulary":
        write_model(root / "tiny", byte_level())  # in the place of the model whose tokens are bytes alone
        (root / "words.txt").write_text(WORDS)
    pruned = _job(root, pruning=_short(kind, {"ratio": 0.2, "calibration": FEW})).run("prune")
    assert pruned.kind == kind
    assert 0 < pruned.parameters_after < pruned.parameters_before


@pytest.mark.thorough
@pytest.mark.parametrize("kind", sorted(RECOVERIES.keys() - {"none"}))
def test_every_way_to_recover(kind: str, root: Path) -> None:
    job = _job(root, recovery=_short(kind, TRAINING))
    job.run("prune")
    assert job.run("recover").kind == kind


def test_every_way_to_quantise(root: Path) -> None:
    job = _job(root, recovery={"kind": "none"}, quantise=[_short(kind, {}) for kind in QUANTISATIONS])
    job.run("prune")
    assert [variant.kind for variant in job.run("quantise").variants] == list(QUANTISATIONS)


def test_the_tables_are_those_of_the_contract() -> None:
    width = {row.options for row in PRUNERS.values() if prune.pruner_of(row.options).prune is prune_units}
    assert width == set(get_args(WidthMethod))
    assert set(quantise.QUANTISATIONS) == {row.options for row in QUANTISATIONS.values()}
