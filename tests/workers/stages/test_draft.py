"""The depth of a draft: played times and acceptances, since real ones of tiny models are noise; then the real stage."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel

from secateur.contract.drafts import draft_speedup
from secateur.contract.errors import InvalidInput
from secateur.contract.planning import DraftPlanned
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_kinds import kinds_of
from tests.fixtures.whole_job import SHORT_SPEC, Job
from workers.engine.benchmarks.clock import Timing
from workers.engine.benchmarks.in_turn import AGAIN
from workers.engine.benchmarks.latency import Cell
from workers.reporting import html, markdown
from workers.stages import draft
from workers.stages.draft import TARGET, between, spread

BLOCKS = 8
SPEC: dict[str, Any] = {
    "model": {"source": "local", "path": "tiny"},
    "use": "draft",
    "target_model": {"source": "local", "path": "large"},
    "scoring": {"criterion": "magnitude", "plus": False},
    "pruning": {"kind": "depth"},
    "recovery": {"kind": "none"},
    "benchmark": {
        **SHORT_SPEC["benchmark"],
        "latency": None,
        "perplexity": None,
        "fidelity": {"enabled": False},
        "draft": {"tokens": 2, "prompts": 2, "max_new_tokens": 8, "runs": 1},
    },
}


@pytest.fixture
def root(tiny_checkpoint: Callable[..., Path]) -> Path:
    tiny_checkpoint("large", num_hidden_layers=10, seed=4)
    return tiny_checkpoint().parent


def job(root: Path, **changes: Any) -> Job:
    return Job(root, CompressionSpec.model_validate({**SPEC, **changes}))


def planned(run: Job) -> DraftPlanned:
    for name in ("check", "score", "draft"):
        run.run(name)
    found: DraftPlanned = run.results["draft"]
    return found


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """Acceptances by blocks that are left; a block takes a second, and the target 40."""
    accepted: dict[int, float] = {}

    class Proxy:
        tokens = (4, 1)

        def __init__(self, *_: Any, **__: Any) -> None: ...

        def of(self, kept: Sequence[int]) -> tuple[float, None, None]:
            return accepted[len(kept)], None, None

    def time_cell(models: Mapping[str, PreTrainedModel], cell: Cell, **_: Any) -> dict[str, list[Timing]]:
        counts = {name: int(model.config.num_hidden_layers) for name, model in models.items()}
        seconds = {name: 40.0 if name == TARGET else float(count) for name, count in counts.items()}
        return {name: [Timing(0.1, time)] * cell.runs for name, time in {**seconds, AGAIN: 40.0}.items()}

    monkeypatch.setattr(draft, "HealedAcceptance", Proxy)
    monkeypatch.setattr(draft, "time_cell", time_cell)
    return accepted


@pytest.mark.parametrize("steep", [0.02, 0.06, 0.4])
def test_the_depth_with_the_highest_expected_speedup_is_taken(
    root: Path, played: dict[int, float], steep: float
) -> None:
    played |= {left: max(0.0, 0.9 - steep * (BLOCKS - left) ** 1.5 / 4) for left in range(1, BLOCKS + 1)}
    found = planned(job(root))
    expected = {left: draft_speedup(played[left], 2, left / 40) for left in range(2, BLOCKS)}
    best = max(expected, key=lambda left: expected[left])
    assert found.removed == BLOCKS - best
    assert found.chosen.expected == pytest.approx(expected[best])
    assert found.chosen.cost == pytest.approx(best / 40)
    assert (found.original.removed, found.original.acceptance) == (0, 0.9)
    assert found.original.cost == pytest.approx(BLOCKS / 40)
    assert [depth.removed for depth in found.tried] == sorted({depth.removed for depth in found.tried})


@pytest.mark.parametrize("best", range(1, 25))
def test_the_search_ends_at_a_depth_whose_neighbours_were_tried(best: int) -> None:
    tried: set[int] = set()
    asked = spread(24)
    while asked:
        tried |= set(asked)
        nearest = min(tried, key=lambda count: abs(count - best))
        asked = between(nearest, sorted(tried))
    assert best in tried
    assert len(tried) <= 12


def test_a_whole_job_prunes_as_deep_as_was_found_best(root: Path) -> None:
    run = job(root, recovery={"kind": "healing", "samples": 8, "tokens": 32})
    for name in kinds_of(run.spec):
        run.run(name)
    report = run.results["report"]
    assert len(report.pruned.dropped) == report.drafted.removed >= 1
    assert report.drafted.healed
    assert report.drafted.text.source == "answers"
    assert report.drafted.target_model.blocks == 10
    assert 0 < report.drafted.chosen.cost < 1
    for text in (html.render(report), markdown.render(report)):
        assert "Depth of the draft" in text


def test_of_a_model_that_no_block_may_leave_there_is_no_best_depth(
    root: Path, tiny_checkpoint: Callable[..., Path]
) -> None:
    shutil.rmtree(root / "tiny")
    tiny_checkpoint(num_hidden_layers=6)
    with pytest.raises(InvalidInput) as caught:
        job(root, scoring={"criterion": "magnitude"}).run("check")
    assert [error.pointer for error in caught.value.errors] == ["/pruning/maximise"]
