"""Healing of lost halves: what is left of a block is fitted, and taken where the predictions come nearer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from workers.engine.healing.fit import through
from workers.engine.healing.halves import heal_halves
from workers.engine.healing.judge import hold_out
from workers.engine.healing.projections import BlockChange
from workers.engine.model.block_model import BlockModel
from workers.engine.model.divergence import mean_kl
from workers.engine.model.reduced_blocks import Half, without_halves

Make = Callable[..., PreTrainedModel]
Ids = Callable[..., Tensor]

# Block 1 has lost its attention, block 3 goes whole after block 2, block 4 has lost its MLP.
GONE: dict[int, list[Half]] = {1: ["attention"], 3: ["attention", "mlp"], 4: ["mlp"]}


@torch.no_grad()
def divergence(view: BlockModel, ids: Tensor, changes: dict[int, BlockChange]) -> float:
    whole = reduced = [view.embed(ids)]
    for block in view.blocks():
        whole = through(block, whole, {})
    for block in view.blocks():
        gone = GONE.get(block.index, [])
        if len(gone) < 2:
            with without_halves(block, gone):
                reduced = through(block, reduced, changes.get(block.index, {}))
    return mean_kl(view, whole, reduced)


@pytest.fixture(name="view")
def _view(make_model: Make) -> BlockModel:
    return BlockModel.from_model(make_model(num_hidden_layers=6))


def test_blocks_that_lost_something_are_fitted_and_nothing_gets_worse(view: BlockModel, make_ids: Ids) -> None:
    ids = make_ids(20, 24)
    done = heal_halves(view, GONE, ids)
    fits = done.fits
    assert [(fit.block, fit.last) for fit in fits] == [(1, 1), (2, 3), (4, 4)]
    assert ["o_proj" in name for fit in fits for name in fit.change] == [False, False, True]
    _, held = hold_out(ids)
    taken: dict[int, BlockChange] = {}
    now = divergence(view, held, {})
    for fit in fits:
        assert fit.error_after < fit.error_before
        assert fit.kl_before == pytest.approx(now, rel=1e-4)
        healed = divergence(view, held, {**taken, fit.block: fit.change})
        assert fit.kl_after == pytest.approx(healed, rel=1e-4)
        if fit.helps:
            taken[fit.block], now = fit.change, healed
    assert taken, "something helps"
    assert done.kl == pytest.approx(now, rel=1e-4)


def test_a_single_half_is_replaced_where_it_can_be(make_model: Make, make_ids: Ids) -> None:
    """An attention that adds nothing but a constant is made up for by an MLP that makes a constant too."""
    model: Any = make_model("gpt2", num_hidden_layers=3)
    with torch.no_grad():
        attention = model.transformer.h[1].attn.c_proj
        attention.weight.zero_()
        attention.bias.fill_(3.0)
        model.transformer.h[1].ln_2.weight.zero_()  # so the MLP does not see what is gone
    (fit,) = heal_halves(BlockModel.from_model(model), {1: ["attention"]}, make_ids(12, 16)).fits
    assert fit.error_after < 0.5 * fit.error_before


def test_what_may_not_be_changed_is_left(view: BlockModel, make_ids: Ids) -> None:
    fits = heal_halves(view, GONE, make_ids(8, 16), changeable=lambda block, name: block != 2).fits
    assert [fit.block for fit in fits] == [1, 4]


def test_where_no_closed_form_holds_the_block_stays(make_model: Make, make_ids: Ids) -> None:
    view = BlockModel.from_model(make_model("gemma2", num_hidden_layers=3))
    assert heal_halves(view, {1: ["attention"]}, make_ids(6, 12)).fits == []


@pytest.mark.parametrize("gone", [{}, {0: ["attention", "mlp"]}])
def test_without_a_block_to_mend_nothing_is_fitted(
    view: BlockModel, make_ids: Ids, gone: dict[int, list[Half]]
) -> None:
    assert heal_halves(view, gone, make_ids(6, 12)).fits == []
