"""Sets judged from kept states against healing each from the beginning, by the walk that jobs use."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from workers.engine.healing import sets as healed_sets
from workers.engine.healing.judge import hold_out
from workers.engine.healing.local_regression import RegressionSettings
from workers.engine.healing.sets import HealedSets
from workers.engine.healing.walk import HealingSettings, fit_healing
from workers.engine.model.block_model import BlockModel

BLOCKS = 7


@pytest.fixture
def model(make_model: Callable[..., PreTrainedModel]) -> PreTrainedModel:
    return make_model(num_hidden_layers=BLOCKS)


def without(removed: tuple[int, ...]) -> list[int]:
    return [block for block in range(BLOCKS) if block not in removed]


@torch.no_grad()
def bare(model: PreTrainedModel, ids: Tensor, removed: tuple[int, ...]) -> float:
    """KL(original || pruned) from whole logits."""
    view = BlockModel.from_model(model)
    states = []
    for order in (range(BLOCKS), without(removed)):
        state = view.embed(ids)
        for block in view.blocks(order):
            state = block(state)
        states.append(view.head(state).double().log_softmax(-1))
    expected, actual = states
    return float((expected.exp() * (expected - actual)).sum(-1).mean())


@pytest.mark.parametrize("removed", [(2, 3), (1, 4), (4, 5, 6), (1, 3, 6), (0, 3)], ids=str)
def test_any_set_is_judged_as_the_walk_judges_it(
    model: PreTrainedModel, make_ids: Callable[..., Tensor], removed: tuple[int, ...]
) -> None:
    ids = make_ids(40, 16)
    found = HealedSets(BlockModel.from_model(model), ids).judged(removed)
    walked = fit_healing(BlockModel.from_model(model), without(removed), ids, settings=HealingSettings(refit="none"))
    assert all(cut.helps for cut in walked.cuts), "or the two would not be the same"
    assert found.kl_pruned == pytest.approx(bare(model, hold_out(ids)[1], removed), rel=1e-4)
    assert found.kl_healed == pytest.approx(walked.cuts[-1].kl_after, rel=1e-4)
    assert found.kl_healed < found.kl_pruned
    taken = walked.taken()
    assert found.changes.keys() == taken.keys()
    for block, change in taken.items():
        for name, added in change.items():
            torch.testing.assert_close(found.changes[block][name], added, rtol=1e-3, atol=1e-4)


def test_blocks_at_the_beginning_alone_leave_nothing_to_heal(
    model: PreTrainedModel, make_ids: Callable[..., Tensor]
) -> None:
    ids = make_ids(20, 16)
    found = HealedSets(BlockModel.from_model(model), ids).judged((0, 1))
    assert found.kl_healed == found.kl_pruned == pytest.approx(bare(model, hold_out(ids)[1], (0, 1)), rel=1e-4)
    assert found.changes == {}


@pytest.mark.parametrize("family", ["gemma3_text", "qwen3_moe"])
def test_a_block_without_a_closed_form_is_trained_where_that_is_asked_for(
    family: str, make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    view, ids = BlockModel.from_model(make_model(family)), make_ids(40, 16)
    before = 0  # which has a norm behind its MLP, or experts in its place
    assert HealedSets(view, ids).judged((before + 1,)).changes == {}
    trained = RegressionSettings(epochs=20, learning_rate=3e-3)
    found = HealedSets(view, ids, trained=trained).judged((before + 1,))
    assert found.kl_healed < found.kl_pruned
    assert found.changes.keys() == {before}


def test_what_does_not_help_is_left_out(
    model: PreTrainedModel, make_ids: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = HealedSets(BlockModel.from_model(model), make_ids(20, 16))
    monkeypatch.setattr(HealedSets, "_heal", lambda *_: {"mlp.down_proj.weight": torch.full((32, 48), 9.0)})
    found = sets.judged((2, 3))
    assert (found.kl_healed, found.changes) == (found.kl_pruned, {})


def test_text_that_memory_does_not_hold_at_every_depth_is_cut(
    model: PreTrainedModel, make_ids: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(healed_sets, "available_memory", lambda device: 0)
    assert HealedSets(BlockModel.from_model(model), make_ids(40, 16)).tokens == (16, 16)
