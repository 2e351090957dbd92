"""Block influence, cosine and angular distance against hidden states of the model's own forward."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from secateur.contract.errors import InvalidInput
from secateur.contract.options.scoring import AngularScoring, BlockInfluenceScoring, CosineScoring
from workers.engine.model.block_model import BlockModel
from workers.engine.scoring import angular, block_influence, cosine, similarity
from workers.engine.scoring.task import ScoringTask


@pytest.fixture(name="states")
def _states(make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]) -> Tensor:
    """(depths, samples, tokens, hidden), taken by hooks on the blocks of the plain model."""
    model, ids = make_model(num_hidden_layers=6), make_ids(5, 16)
    rows: list[Tensor] = []
    stack = list(model.get_submodule("model.layers").children())
    hooks = [stack[0].register_forward_pre_hook(lambda _, args: rows.append(args[0].double()))]
    hooks += [block.register_forward_hook(lambda _, __, out: rows.append(out.double())) for block in stack]
    with torch.no_grad():
        model(input_ids=ids, use_cache=False)
    for hook in hooks:
        hook.remove()
    return torch.stack(rows)


@pytest.fixture(name="view")
def _view(make_model: Callable[..., PreTrainedModel]) -> BlockModel:
    return BlockModel.from_model(make_model(num_hidden_layers=6))


@pytest.fixture(name="ids")
def _ids(make_ids: Callable[..., Tensor]) -> Tensor:
    return make_ids(5, 16)


def test_block_influence(view: BlockModel, ids: Tensor, states: Tensor) -> None:
    turned = 1 - F.cosine_similarity(states[:-1], states[1:], dim=-1)  # (blocks, samples, tokens)
    expected = turned.sum((1, 2)).tolist()
    scores = block_influence.score(ScoringTask(view, ids, BlockInfluenceScoring(criterion="block_influence")))
    assert scores.values == pytest.approx(expected, rel=1e-4)
    assert scores.order == sorted(range(6), key=lambda block: expected[block])
    errors = (turned.sum(2).std(1) * math.sqrt(5)).tolist()
    assert scores.standard_errors == pytest.approx(errors, rel=1e-3)


@pytest.mark.parametrize(("size", "batches"), [(1, 5), (2, 3), (5, 1), (8, 1)])
def test_cosine(size: int, batches: int, view: BlockModel, ids: Tensor, states: Tensor) -> None:
    alike = F.cosine_similarity(states[:-1], states[1:], dim=-1)  # (blocks, samples, tokens)
    expected = [sum(float(1 - part.mean()) for part in block.split(size)) for block in alike]
    scores = cosine.score(ScoringTask(view, ids, CosineScoring(criterion="cosine", batch_size=size)))
    assert scores.values == pytest.approx(expected, rel=1e-4)
    assert scores.order == sorted(range(6), key=lambda block: expected[block])
    assert scores.details["batches"] == batches
    assert (scores.standard_errors is None) == (batches == 1)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_angular(count: int, view: BlockModel, ids: Tensor, states: Tensor) -> None:
    last = states[:, :, -1]
    expected = [
        float(F.cosine_similarity(last[start], last[start + count], dim=-1).arccos().mean()) / math.pi
        for start in range(6 - count + 1)
    ]
    scores = angular.score(ScoringTask(view, ids, AngularScoring(criterion="angular"), count=count))
    assert scores.values[: len(expected)] == pytest.approx(expected, rel=1e-4)
    assert scores.values[len(expected) :] == [None] * (count - 1)
    start = expected.index(min(expected))
    assert scores.order == list(range(start, start + count))


def test_angular_runs_avoid_protected_blocks(view: BlockModel, ids: Tensor) -> None:
    task = ScoringTask(view, ids, AngularScoring(criterion="angular"), count=2, protected=frozenset({0, 3, 5}))
    scores = angular.score(task)
    assert scores.order == [1, 2]
    with pytest.raises(InvalidInput, match="consecutive") as caught:
        angular.score(replace(task, count=3))
    assert caught.value.errors[0].pointer == "blocks"


def test_samples_in_groups_give_the_same(view: BlockModel, ids: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = block_influence.score(ScoringTask(view, ids, BlockInfluenceScoring(criterion="block_influence")))
    monkeypatch.setattr(similarity, "sample_groups", lambda *_: iter([slice(0, 2), slice(2, 5)]))
    seen: list[int] = []
    parts = block_influence.score(
        ScoringTask(
            view, ids, BlockInfluenceScoring(criterion="block_influence"), progress=lambda done, *_: seen.append(done)
        )
    )
    assert parts.values == pytest.approx(whole.values, rel=1e-6)
    assert seen == list(range(1, 13))
