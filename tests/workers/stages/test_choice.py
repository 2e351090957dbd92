"""Jobs that name what is to be reached: the number of blocks is worked out, and it is reached to the unit."""

from __future__ import annotations

from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from secateur.contract.errors import InvalidInput
from secateur.contract.spec import CompressionSpec
from tests.fixtures.whole_job import SHORT_SPEC, Job
from workers.engine.checkpoints.checkpoint import Checkpoint

SIZES_ALONE = {
    "latency": None,
    "perplexity": None,
    "samples": None,
    "generation": None,
    "fidelity": {"enabled": False},
}
SPEC: dict[str, Any] = {
    **SHORT_SPEC,
    "scoring": {"criterion": "magnitude", "plus": False},
    "recovery": {"kind": "none"},
    "benchmark": SIZES_ALONE,
}


def job(root: Path, target: dict[str, Any], **changes: Any) -> Job:
    spec = {**SPEC, "pruning": {"kind": "depth", "target": target}, **changes}
    return Job(root, CompressionSpec.model_validate(spec))


@pytest.mark.parametrize("criterion", ["magnitude", "greedy"])
@pytest.mark.parametrize("figure", ["parameters", "bytes"])
def test_a_size_is_reached_by_as_few_blocks_as_can_be(
    tiny_checkpoint: Callable[..., Path], figure: str, criterion: str
) -> None:
    path = tiny_checkpoint()
    whole = Checkpoint.open(path).total_bytes
    scoring = {"criterion": criterion, "plus": False}
    if criterion == "greedy":  # which has to know how many are looked for
        scoring["calibration"] = {"samples": 2, "tokens": 16}
    run = job(path.parent, {figure: 0.7}, scoring=scoring)
    seen = {check.name: check.seen for check in run.run("check").checks}
    run.run("score")
    pruned = run.run("prune")
    before = {"parameters": pruned.parameters_before, "bytes": pruned.bytes_before}[figure]
    after = {"parameters": pruned.parameters_after, "bytes": pruned.bytes_after}[figure]
    assert figure == "parameters" or before == whole
    block = (before - after) // len(pruned.dropped)
    assert after <= 0.7 * before < after + block
    assert seen["pruning"] == f"{len(pruned.dropped)} of 8 blocks go, 0 are protected"
    run.run("benchmark")
    target = run.run("report").target
    assert (target.figure, target.asked, target.limit) == (figure, 0.7, int(0.7 * before))
    assert (target.removed, target.value, target.met) == (len(pruned.dropped), after, True)
    text = (run.folders["report"] / "report.md").read_text()
    assert f"{len(pruned.dropped)} of 8 blocks had to go, and {after:,} are left" in text
    page = (run.folders["report"] / "report.html").read_text()
    assert target.message in unescape(page)


def test_blocks_that_differ_in_size_reach_it_whichever_of_them_go(tiny_checkpoint: Callable[..., Path]) -> None:
    path = tiny_checkpoint(model_type="qwen2_moe", mlp_only_layers=[0, 2, 4], num_experts=4)
    run = job(path.parent, {"parameters": 0.9})
    run.run("check")
    run.run("score")
    pruned = run.run("prune")
    assert pruned.parameters_after <= 0.9 * pruned.parameters_before


@pytest.mark.parametrize("figure", ["parameters", "bytes"])
def test_what_no_depth_reaches_is_refused_before_anything_is_scored(
    tiny_checkpoint: Callable[..., Path], figure: str
) -> None:
    path = tiny_checkpoint()
    recovery = {"kind": "distill", "train": "last_blocks", "tokens": 16, "samples": 8, "max_steps": 1}
    for target in (0.01, 10**9):
        with pytest.raises(InvalidInput) as caught:
            job(path.parent, {figure: target}, recovery=recovery).run("check")
        (error,) = caught.value.errors
        assert (error.pointer, error.value) == (f"/pruning/target/{figure}", target)
