from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.api import example_results
from app.web import views
from secateur.contract.results import Scores


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
        ({"pruning": {"kind": "flap", "ratio": 0.2}}, "20 % by flap"),
        ({"pruning": {"kind": "sub_block", "units": 12}}, "12 halves of blocks by sub_block"),
        ({"pruning": {"kind": "sub_block", "drop": ["3.mlp", "5.attention"]}}, "3.mlp, 5.attention"),
        ({"pruning": {"kind": "experts", "experts": 12, "criterion": "reap"}}, "12 experts by reap"),
        ({"pruning": {"kind": "experts", "ratio": 0.25, "criterion": "frequency"}}, "25 % of the experts by frequency"),
    ],
)
def test_what_a_job_does(spec: dict[str, Any], words: str) -> None:
    assert views.what(spec) == words


def test_bars_are_as_high_as_their_scores_and_within_the_plot() -> None:
    scores = Scores.model_validate(example_results.SCORES)
    plot = views.importance(scores)
    values = [score.value for score in scores.blocks]
    by_height = sorted(range(4), key=lambda i: plot.bars[i].height)
    assert by_height == sorted(range(4), key=lambda i: values[i] or 0)
    assert [bar.kind for bar in plot.bars] == ["kept", "kept", "dropped", "kept"]
    for bar in plot.bars:
        assert 0 <= bar.x < bar.x + bar.width <= plot.width
        assert 0 <= bar.y < bar.y + bar.height <= plot.height


def test_equal_and_absent_scores_have_bars() -> None:
    body = {**example_results.SCORES, "blocks": [{"block": 0, "value": 2.0}, {"block": 1, "value": 2.0}, {"block": 2}]}
    plot = views.importance(Scores.model_validate(body))
    assert plot.bars[0].height == plot.bars[1].height > plot.bars[2].height
    assert plot.bars[2].label == "block 2: no score, dropped"
