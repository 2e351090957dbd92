from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.web import views


@pytest.mark.parametrize(("seconds", "words"), [(0, "0 s"), (4.2, "4.2 s"), (185, "3 min 05 s"), (3720, "1 h 02 min")])
def test_durations(seconds: float, words: str) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    assert views.elapsed(start, start + timedelta(seconds=seconds)) == words
    assert views.elapsed(None, None) == ""


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"pruning": {"kind": "depth", "blocks": 6}, "scoring": {"criterion": "taylor"}}, "6 blocks by taylor"),
        (
            {
                "pruning": {"kind": "depth", "ratio": 0.2},
                "scoring": {"criterion": "perplexity"},
                "recovery": {"kind": "lora"},
            },
            "20 % of the blocks by perplexity, then lora",
        ),
        ({"pruning": {"kind": "depth", "drop": [3, 4]}, "recovery": {"kind": "none"}}, "blocks 3, 4"),
        (
            {
                "pruning": {"kind": "depth", "ratio": None, "maximise": "draft_speedup"},
                "scoring": {"criterion": "perplexity"},
            },
            "as many blocks as make the best draft by perplexity",
        ),
        ({"pruning": {"kind": "flap", "ratio": 0.2}}, "20 % by flap"),
        ({"pruning": {"kind": "sub_block", "units": 12}}, "12 halves of blocks by sub_block"),
        ({"pruning": {"kind": "sub_block", "drop": ["3.mlp", "5.attention"]}}, "3.mlp, 5.attention"),
        (
            {"pruning": {"kind": "joint", "target": {"parameters": None, "speedup": 1.3}}, "scoring": {}},
            "as much as speedup 1.3 takes by joint",
        ),
        (
            {"pruning": {"kind": "depth", "target": {"memory": 0.8}}, "scoring": {"criterion": "taylor"}},
            "as much as memory 0.8 takes by taylor",
        ),
        (
            {"pruning": {"kind": "depth", "constraints": {"max_kl": 0.3}}, "scoring": {"criterion": "taylor"}},
            "as much as the constraints allow by taylor",
        ),
        ({"pruning": {"kind": "vocabulary", "tokens": 24000}}, "24,000 tokens left"),
        ({"pruning": {"kind": "experts", "experts": 12, "criterion": "reap"}}, "12 experts by reap"),
        ({"pruning": {"kind": "experts", "ratio": 0.25, "criterion": "frequency"}}, "25 % of the experts by frequency"),
    ],
)
def test_what_a_job_does(spec: dict[str, Any], words: str) -> None:
    assert views.what(spec) == words


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def told(*steps: tuple[float, int, int, str]) -> list[tuple[datetime, dict[str, Any]]]:
    """Progress at so many seconds after noon."""
    return [
        (NOON + timedelta(seconds=at), {"done": done, "total": total, "unit": unit}) for at, done, total, unit in steps
    ]


def test_the_rest_of_a_step_follows_from_its_progress() -> None:
    steps = told((0, 10, 100, "steps"), (20, 30, 100, "steps"))
    assert views.time_left(steps, NOON + timedelta(seconds=30)) == "about 1 min 00 s left in this step"
    before = told((-500, 3, 75, "tensors"), (-400, 75, 75, "tensors"))
    assert views.time_left([*before, *steps], NOON + timedelta(seconds=30)) == "about 1 min 00 s left in this step"
    again = told((-20, 50, 100, "steps"), (-10, 100, 100, "steps"))  # the same of another model, before
    assert views.time_left([*again, *steps], NOON + timedelta(seconds=30)) == "about 1 min 00 s left in this step"
    late = views.time_left(steps, NOON + timedelta(seconds=500))
    assert late == "about 1.0 s left in this step"


@pytest.mark.parametrize(
    "steps",
    [
        told(),
        told((0, 10, 100, "steps")),
        told((0, 10, 100, "steps"), (1, 20, 100, "steps")),  # too short to judge by
        told((0, 10, 100, "steps"), (9, 10, 100, "steps")),
        told((0, 10, 100, "steps"), (9, 100, 100, "steps")),
    ],
)
def test_too_little_progress_tells_nothing_of_the_rest(steps: list[tuple[datetime, dict[str, Any]]]) -> None:
    assert views.time_left(steps, NOON) == ""


def test_the_loss_so_far_counts_a_step_that_was_done_anew_once() -> None:
    losses = ((1, 9.0), (2, 8.0), (2, 5.0), (3, 4.0))
    points = [{"step": step, "loss": loss, "learning_rate": 0.1} for step, loss in losses]
    plot = views.running_loss(points)
    assert plot is not None
    assert plot.drawings[0].count("<circle") == 3
    assert "From 9.00 nats per token at step 1 to 4.00 at step 3." in plot.drawings[0]
    assert views.running_loss([{"step": 1, "blocks": 2}]) is None
