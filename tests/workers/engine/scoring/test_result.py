"""Sorting scores gives the order of removal: the published scores of eight models give the published orders."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from secateur.contract.depth import plus_protected
from secateur.contract.errors import StageFailed
from workers.engine.pruning.choose_blocks import choose_blocks
from workers.engine.scoring.result import BlockScores

_DATA = Path(__file__).parents[3] / "data"


def _published(name: str) -> dict[str, dict[str, Any]]:
    loaded: dict[str, dict[str, Any]] = json.loads((_DATA / name).read_text())
    return loaded


_SCORES = _published("published_block_scores.json")
_ORDERS = _published("published_block_orders.json")
_PAIRS = [(model, criterion) for model, criteria in _SCORES.items() for criterion in criteria]


@pytest.mark.parametrize(("model", "criterion"), _PAIRS)
def test_published_scores_give_the_published_order(model: str, criterion: str) -> None:
    assert BlockScores.lowest_first(_SCORES[model][criterion]).order == _ORDERS[model][criterion]


def test_all_eight_models_and_both_criteria_are_there() -> None:
    assert len(_SCORES) == 8
    assert all({"perplexity", "taylor"} <= set(criteria) for criteria in _SCORES.values())


@pytest.mark.parametrize(
    ("model", "criterion", "first_six"),
    [
        ("llama-1-7b", "perplexity", [24, 26, 25, 10, 27, 13]),
        ("llama-1-7b", "taylor", [27, 24, 26, 25, 29, 28]),
        ("Meta-Llama-3-8B", "perplexity", [8, 23, 9, 11, 10, 25]),
        ("Meta-Llama-3-8B", "taylor", [24, 25, 26, 28, 29, 23]),
    ],
)
def test_published_first_six_with_the_plus_rule(model: str, criterion: str, first_six: list[int]) -> None:
    scores = BlockScores.lowest_first(_SCORES[model][criterion])
    assert choose_blocks(scores, count=6, protected=plus_protected(32)) == first_six


def test_a_score_that_is_no_number_is_an_error() -> None:
    with pytest.raises(StageFailed, match="block 1"):
        BlockScores.lowest_first([1.0, math.nan])
