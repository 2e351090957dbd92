"""One block trained on states: what it learns, what may change, and that the best change is handed out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from secateur.contract.errors import StageFailed
from workers.engine.healing.local_regression import Regressed, RegressionSettings, regress
from workers.engine.healing.projections import changed
from workers.engine.healing.state_error import ChannelScale
from workers.engine.model.block_model import Block, BlockModel

Pair = tuple[Sequence[Tensor], Sequence[Tensor]]


@pytest.fixture
def view(make_model: Callable[..., PreTrainedModel]) -> BlockModel:
    return BlockModel.from_model(make_model("gemma2"))


def block_of(view: BlockModel) -> Block:
    return next(iter(view.blocks([1])))


@torch.no_grad()
def pair(view: BlockModel, ids: Tensor) -> Pair:
    """What enters block 1, in two pieces, and what leaves block 2."""
    state = next(iter(view.blocks([0])))(view.embed(ids))
    target = next(iter(view.blocks([2])))(block_of(view)(state))
    return state.chunk(2), target.chunk(2)


def fit(view: BlockModel, known: Pair, unseen: Pair, **more: Any) -> Regressed:
    chosen: dict[str, Any] = {"trained": lambda name: True, "seed": 1, "tell": lambda share: None, **more}
    settings = chosen.pop("settings", RegressionSettings(epochs=6, learning_rate=3e-3))
    return regress(block_of(view), known, unseen, settings=settings, **chosen)


def test_the_error_falls_and_is_that_of_the_block_with_the_change(
    view: BlockModel, make_ids: Callable[..., Tensor]
) -> None:
    known, unseen = pair(view, make_ids(60, 16)), pair(view, make_ids(20, 16, seed=5))
    shares: list[float] = []
    found = fit(view, known, unseen, tell=shares.append)
    assert found.left_after < 0.8 * found.left_before
    assert sum(shares) == pytest.approx(1)
    scale = ChannelScale.of(known[1])
    block = block_of(view)
    with torch.no_grad():
        assert scale.error(torch.cat([block(state) for state in unseen[0]]), torch.cat(list(unseen[1]))) == (
            pytest.approx(found.left_before, rel=1e-4)
        )
        with changed(block.module, found.change):
            left = torch.cat([block(state) for state in unseen[0]])
    assert float(scale.error(left, torch.cat(list(unseen[1])))) == pytest.approx(found.left_after, rel=1e-4)


def test_only_what_may_change_does_and_ranks_are_kept(view: BlockModel, make_ids: Callable[..., Tensor]) -> None:
    known, unseen = pair(view, make_ids(30, 16)), pair(view, make_ids(10, 16, seed=5))
    settings = RegressionSettings(epochs=4, learning_rate=3e-3, rank=2)
    found = fit(view, known, unseen, settings=settings, trained=lambda name: "down_proj" in name or "norm" in name)
    assert set(found.change) == {
        "mlp.down_proj.weight",
        *(f"{name}.weight" for name in ("input_layernorm", "post_attention_layernorm")),
        *(f"{name}.weight" for name in ("pre_feedforward_layernorm", "post_feedforward_layernorm")),
    }
    assert int(torch.linalg.matrix_rank(found.change["mlp.down_proj.weight"], tol=1e-6)) == 2


def test_a_change_that_spoils_the_held_out_samples_is_not_handed_out(
    view: BlockModel, make_ids: Callable[..., Tensor]
) -> None:
    known = pair(view, make_ids(30, 16))
    unseen = (known[0], [block_of(view)(state).detach() for state in known[0]])  # nothing is lacking
    found = fit(view, known, unseen)
    assert found.change == {}
    assert found.left_after == found.left_before < 1e-9


def test_the_same_seed_gives_the_same_change(view: BlockModel, make_ids: Callable[..., Tensor]) -> None:
    known, unseen = pair(view, make_ids(30, 16)), pair(view, make_ids(10, 16, seed=5))
    first, second, third = (fit(view, known, unseen, seed=seed).change for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], third[name]) for name in first)


def test_states_that_are_not_finite_are_told(view: BlockModel, make_ids: Callable[..., Tensor]) -> None:
    known = pair(view, make_ids(30, 16))
    known[1][0][0, 0, 0] = float("nan")
    with pytest.raises(StageFailed, match="not finite at step"):
        fit(view, known, known)
