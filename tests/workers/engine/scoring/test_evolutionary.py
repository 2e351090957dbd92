"""The evolutionary search against all sets tried one by one, and its divergence against full logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from secateur.contract.options.scoring import EvolutionaryScoring
from workers.engine.model.block_model import BlockModel
from workers.engine.scoring import evolutionary
from workers.engine.scoring.task import ScoringTask


def _divergence(model: PreTrainedModel, reduced: PreTrainedModel, ids: Tensor) -> float:
    with torch.no_grad():
        expected = model(input_ids=ids, use_cache=False).logits.double().log_softmax(-1)
        actual = reduced(input_ids=ids, use_cache=False).logits.double().log_softmax(-1)
    return float((expected.exp() * (expected - actual)).sum(-1).mean())


def test_finds_the_best_of_all_sets(
    make_model: Callable[..., PreTrainedModel],
    make_ids: Callable[..., Tensor],
    without: Callable[..., PreTrainedModel],
) -> None:
    model, ids = make_model(num_hidden_layers=6), make_ids(3, 16)
    all_sets = {pair: _divergence(model, without(model, pair), ids) for pair in combinations(range(6), 2)}
    best = min(all_sets, key=lambda pair: all_sets[pair])
    options = EvolutionaryScoring(criterion="evolutionary", evaluations=200, initial=16, offspring=16)
    scores = evolutionary.score(ScoringTask(BlockModel.from_model(model), ids, options, count=2))
    assert scores.order == list(best)
    assert scores.details["divergence"] == pytest.approx(all_sets[best], rel=1e-4)
    for block in best:
        assert scores.values[block] == pytest.approx(all_sets[best], rel=1e-4)
    for value in scores.values:
        assert value is None or value >= scores.details["divergence"]
    course = scores.details["divergence_by_generation"]
    assert course == sorted(course, reverse=True)  # elitist: the best never gets worse
    assert scores.details["evaluations"] == 200


def test_protected_blocks_stay_and_the_seed_decides(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    view, ids = BlockModel.from_model(make_model(num_hidden_layers=8)), make_ids(2, 12)
    options = EvolutionaryScoring(criterion="evolutionary", evaluations=6, initial=3, offspring=3)
    task = ScoringTask(view, ids, options, count=3, protected=frozenset({0, 7}))
    runs = [evolutionary.score(replace(task, seed=seed)) for seed in (0, 0, 1)]
    assert runs[0] == runs[1]
    assert runs[0].details["divergence_by_generation"] != runs[2].details["divergence_by_generation"]
    for run in runs:
        assert len(run.order) == 3
        assert not {0, 7} & set(run.order)


def test_a_search_without_a_choice_ends_at_once(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    view = BlockModel.from_model(make_model(num_hidden_layers=4))
    scores = evolutionary.score(
        ScoringTask(
            view, make_ids(), EvolutionaryScoring(criterion="evolutionary"), count=2, protected=frozenset({0, 3})
        )
    )
    assert scores.order == [1, 2]
