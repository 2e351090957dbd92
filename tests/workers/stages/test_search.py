"""The most blocks that constraints allow: by bisection with played distances, and in a whole job with real ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from secateur.contract.errors import InvalidInput
from secateur.contract.jobs import Verdict
from secateur.contract.planning import Searched
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_kinds import kinds_of
from tests.fixtures.whole_job import SHORT_SPEC, Job
from workers.engine.benchmarks.healed_distance import Distance
from workers.stages import search

TEXT = {"text": {"source": "local", "path": "words.txt"}, "samples": 10, "tokens": 16}
SPEC: dict[str, Any] = {
    **SHORT_SPEC,
    "scoring": {"criterion": "magnitude", "plus": False},
    "recovery": {"kind": "none"},
    "benchmark": {
        **SHORT_SPEC["benchmark"],
        "latency": None,
        "perplexity": {"texts": [TEXT["text"]], "tokens": 16, "windows": 4},
    },
}


@pytest.fixture
def root(tiny_checkpoint: Callable[..., Path], text_file: Path) -> Path:
    root = tiny_checkpoint(num_hidden_layers=12).parent
    (root / "words.txt").symlink_to(text_file)
    return root


def job(root: Path, constraints: dict[str, Any], **changes: Any) -> Job:
    pruning = {"kind": "depth", "constraints": {"calibration": TEXT, **constraints}, "maximise": "speedup"}
    spec = CompressionSpec.model_validate({**SPEC, "pruning": pruning, **changes})
    return Job(root, spec, data_roots=(root, (root / "words.txt").resolve().parent))


class PlayedProxy:
    """Each block that is gone costs a tenth of a nat and a twentieth of the agreement; intervals are of a hundredth."""

    tokens = (1, 1)
    asked: list[int]
    heals: bool

    def __init__(self, model: Any, ids: Any, *, heals: bool, seed: int) -> None:
        PlayedProxy.asked, PlayedProxy.heals = [], heals

    def distance(self, kept: Sequence[int]) -> Distance:
        gone = 12 - len(kept)
        self.asked.append(gone)
        kl, same = 0.1 * gone, 1 - 0.05 * gone
        return Distance((kl, kl - 0.01, kl + 0.01), (same, same - 0.01, same + 0.01))


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> type[PlayedProxy]:
    monkeypatch.setattr(search, "HealedDistance", PlayedProxy)
    return PlayedProxy


def searched(root: Path, constraints: dict[str, Any], **changes: Any) -> Searched:
    run = job(root, constraints, **changes)
    run.run("score")
    found: Searched = run.run("search")
    return found


@pytest.mark.parametrize(
    ("constraints", "removed"),
    [
        ({"max_kl": 0.3}, 2),  # the worse end of 0.3 is 0.31
        ({"max_kl": 0.315}, 3),
        ({"max_kl": 9}, 11),
        ({"max_kl": 0.12}, 1),
        ({"min_top1_agreement": 0.7}, 5),
        ({"min_top1_agreement": 0.7, "max_kl": 0.45}, 4),
        ({"min_top1_agreement": 0.85, "max_kl": 0.9}, 2),
    ],
    ids=str,
)
def test_as_many_blocks_go_as_keep_the_constraints(
    root: Path, played: type[PlayedProxy], constraints: dict[str, Any], removed: int
) -> None:
    found = searched(root, constraints)
    assert found.removed == found.chosen.removed == removed
    assert found.limits == constraints
    assert len(played.asked) <= 4, "of 11 depths"
    assert sorted(played.asked) == [depth.removed for depth in found.tried]
    assert [depth.within for depth in found.tried] == [depth.removed <= removed for depth in found.tried]
    assert found.healed is played.heals is False


def test_the_plus_rule_bounds_it(root: Path, played: type[PlayedProxy]) -> None:
    assert searched(root, {"max_kl": 9}, scoring={"criterion": "magnitude"}).removed == 6


def test_depths_are_healed_where_a_recovery_follows(root: Path, played: type[PlayedProxy]) -> None:
    found = searched(root, {"max_kl": 0.3}, recovery={"kind": "healing", "samples": 4, "tokens": 16})
    assert found.healed is played.heals is True


def test_constraints_that_no_depth_keeps_are_told_with_the_best(root: Path, played: type[PlayedProxy]) -> None:
    with pytest.raises(InvalidInput) as caught:
        searched(root, {"max_kl": 0.1})
    (error,) = caught.value.errors
    assert (error.pointer, error.value) == ("/pruning/constraints", {"max_kl": 0.1})
    assert (
        "without a single block it is KL 0.100 (0.0900 to 0.110), top-1 agreement 95.0 % (94.0 to 96.0 %)"
        in error.detail
    )


def test_a_model_of_which_no_block_may_go(tiny_checkpoint: Callable[..., Path], text_file: Path) -> None:
    root = tiny_checkpoint(num_hidden_layers=6).parent
    (root / "words.txt").symlink_to(text_file)
    with pytest.raises(InvalidInput) as caught:
        job(root, {"max_kl": 0.1}, scoring={"criterion": "magnitude"}).run("check")
    (error,) = caught.value.errors
    assert (error.pointer, error.value) == ("/pruning/constraints", {"max_kl": 0.1})
    assert "none of the model's 6 blocks may go" in error.detail


@pytest.mark.thorough
@pytest.mark.parametrize("recovery", [{"kind": "none"}, {"kind": "healing", **TEXT, "own_text": 0}], ids=str)
def test_a_whole_job_says_what_was_foreseen_and_what_came(root: Path, recovery: dict[str, Any]) -> None:
    run = job(root, {"max_kl": 1.5, "min_top1_agreement": 0.05}, recovery=recovery)
    assert kinds_of(run.spec)[:4] == ("check", "score", "search", "prune")
    for name in kinds_of(run.spec):
        run.run(name)
    report = run.results["report"]
    assert len(report.pruned.dropped) == report.searched.removed == run.results["search"].removed >= 1
    assert report.searched.healed is (recovery["kind"] != "none")
    assert [gate.gate for gate in report.gates] == ["max_kl", "min_top1_agreement"]
    passed = all(gate.passed for gate in report.gates)
    assert report.verdict is (Verdict.PASSED if passed else Verdict.FAILED)
    page = unescape((run.folders["report"] / "report.html").read_text())
    assert "were foreseen; KL" in page
    assert f"{report.searched.removed} block" in page
    assert "held-out tokens of words.txt" in (run.folders["report"] / "report.md").read_text()
