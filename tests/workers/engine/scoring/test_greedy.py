"""Greedy search against plain rounds over separate models."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from secateur.contract.errors import InvalidInput
from secateur.contract.options.scoring import GreedyScoring
from workers.engine.model.block_model import BlockModel
from workers.engine.scoring import greedy, rounds
from workers.engine.scoring.task import ScoringTask


def _oracle(
    model: PreTrainedModel,
    ids: Tensor,
    count: int,
    without: Callable[..., PreTrainedModel],
    token_losses: Callable[..., Tensor],
) -> tuple[list[int], list[float]]:
    removed: list[int] = []
    losses: list[float] = []
    for _ in range(count):
        candidates = [block for block in range(1, 7) if block not in removed]
        found = {b: float(token_losses(without(model, {*removed, b}), ids).mean()) for b in candidates}
        best = min(found, key=lambda block: found[block])
        removed.append(best)
        losses.append(found[best])
    return removed, losses


@pytest.mark.parametrize("cache", [2**31, 20_000, 1])
def test_equals_plain_rounds_whatever_the_cache(
    cache: int,
    make_model: Callable[..., PreTrainedModel],
    make_ids: Callable[..., Tensor],
    without: Callable[..., PreTrainedModel],
    token_losses: Callable[..., Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rounds, "CACHE_BYTES", cache)
    model, ids = make_model(num_hidden_layers=8), make_ids(3, 16)
    removed, losses = _oracle(model, ids, 4, without, token_losses)
    scores = greedy.score(ScoringTask(BlockModel.from_model(model), ids, GreedyScoring(criterion="greedy"), count=4))
    assert scores.order[:4] == removed
    assert [scores.values[block] for block in removed] == pytest.approx(losses, rel=1e-4)
    assert sorted(scores.order) == [1, 2, 3, 4, 5, 6]
    assert scores.values[0] is scores.values[7] is None
    assert [entry["removed"] for entry in scores.details["rounds"]] == removed


def test_counts_its_passes_and_those_of_plain_rounds(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    view = BlockModel.from_model(make_model(num_hidden_layers=12))
    rows: list[int] = []  # samples that went through an MLP, call by call
    for block in view.blocks():
        block.module.get_submodule("mlp").register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    scores = greedy.score(ScoringTask(view, make_ids(2, 12), GreedyScoring(criterion="greedy"), count=4))
    assert sum(rows) == pytest.approx(2 * scores.details["block_passes"])
    # 10 candidates of 11 blocks, then 9 of 10, 8 of 9, 7 of 8
    assert scores.details["plain_block_passes"] == 10 * 11 + 9 * 10 + 8 * 9 + 7 * 8
    assert scores.details["block_passes"] < 0.6 * scores.details["plain_block_passes"]


def test_candidates_that_cannot_win_stop_early_and_change_nothing(
    make_model: Callable[..., PreTrainedModel],
    make_ids: Callable[..., Tensor],
    without: Callable[..., PreTrainedModel],
    token_losses: Callable[..., Tensor],
) -> None:
    model, ids = make_model(num_hidden_layers=8), make_ids(10, 16)
    with torch.no_grad():  # without block 2 the model is certain of the wrong tokens
        model.get_parameter("model.layers.2.mlp.down_proj.weight").mul_(100)
        model.get_parameter("lm_head.weight").mul_(20)
    removed, losses = _oracle(model, ids, 3, without, token_losses)
    view = BlockModel.from_model(model)
    scores = greedy.score(ScoringTask(view, ids, GreedyScoring(criterion="greedy"), count=3))
    assert scores.order[:3] == removed
    assert [scores.values[block] for block in removed] == pytest.approx(losses, rel=1e-4)
    assert scores.details["block_passes"] < 45  # 46 if block 2 ran to the end of each round


def test_protected_blocks_stay_and_the_ends_always(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    view = BlockModel.from_model(make_model(num_hidden_layers=6))
    scores = greedy.score(
        ScoringTask(view, make_ids(), GreedyScoring(criterion="greedy"), count=2, protected=frozenset({1, 4}))
    )
    assert sorted(scores.order) == [2, 3]
    with pytest.raises(InvalidInput) as caught:
        greedy.score(ScoringTask(view, make_ids(), GreedyScoring(criterion="greedy"), count=5))
    assert caught.value.errors[0].pointer == "blocks"
