"""Neurons of removed blocks: where they lie, what they are worth, and that they do in a new place what they did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from secateur.contract.errors import UnsupportedModel
from workers.engine.healing.neurons import Layout, Neurons, Transplant, fold_of, layout_of, strengths
from workers.engine.healing.projections import changed, watched
from workers.engine.model.block_model import Block, BlockModel

NONE = {
    *("mixtral", "qwen2_moe", "qwen3_moe"),  # experts, but for one block of the last two
    "olmo2",  # no norm before the MLP
}
UNFOLDED = {"falcon", "stablelm"}  # norms have biases, and the projections none to take their offsets
BEFORE, REMOVED = 0, (1, 2)


def activations(block: Block, layout: Layout, state: Tensor) -> Tensor:
    """What the down-projection takes, (tokens, neurons)."""
    with watched(block.module, [layout.down]) as seen:
        block(state)
    return seen[layout.down].inputs.flatten(0, -2)


def walked(view: BlockModel, ids: Tensor, *, share: float) -> tuple[Transplant, Layout, list[Tensor]]:
    """A transplant that has seen blocks 0 to 2, its layout, and the state before each."""
    states = [view.embed(ids)]
    (first,) = view.blocks([BEFORE])
    layout = layout_of(first, states[0][:1])
    assert layout is not None
    transplant = Transplant(first, layout, states[0][:1], share=share)
    for block in view.blocks([BEFORE, *REMOVED]):
        (left,) = transplant.follow(block, states[-1:])
        assert torch.equal(left, block(states[-1]))
        states.append(left)
    return transplant, layout, states


@torch.no_grad()
def test_a_neuron_gives_in_its_new_place_what_its_own_block_gives_on_the_same_state(
    family: str, make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    """Norms, gates, fused projections and biases of every family included."""
    view, ids = BlockModel.from_model(make_model(family)), make_ids(3, 12)
    if family in NONE:
        assert layout_of(next(view.blocks([BEFORE])), view.embed(ids)) is None
        return
    transplant, layout, states = walked(view, ids, share=0.25)
    before, *removed = view.blocks([BEFORE, *REMOVED])
    if family in UNFOLDED:
        with pytest.raises(UnsupportedModel, match="No removed block after block 0 has neurons"):
            transplant.change(before)
        return
    with watched(before.module, [layout.norm]) as seen:
        before(states[0])
    halfway = seen[layout.norm].inputs
    change = transplant.change(before)
    assert set(change) == {stretch.name for stretch in layout.stretches}
    with changed(before.module, change):
        after = activations(before, layout, states[0])
        columns = layout.column.of(before.module.get_parameter(layout.column.name).data, layout.count).clone()
    own = activations(before, layout, states[0])
    theirs: list[Tensor] = []  # what a removed block's MLP makes of the state that the other block's takes
    for block in removed:
        handle = block.module.get_submodule(layout.norm).register_forward_pre_hook(lambda _module, _args: (halfway,))
        theirs.append(activations(block, layout, states[0]))
        handle.remove()
    worth = torch.cat([strengths(block, layout, [states[block.index]])[1] for block in removed])
    strongest = worth.topk(transplant.count).indices
    weakest = strengths(before, layout, states[:1])[1].topk(transplant.count, largest=False).indices
    assert transplant.count == round(0.25 * layout.count)
    assert torch.allclose(after[:, weakest], torch.cat(theirs, 1)[:, strongest], atol=1e-4)
    assert not torch.allclose(after[:, weakest], own[:, weakest], atol=1e-2)
    added = torch.cat(
        [layout.column.of(block.module.get_parameter(layout.column.name).data, layout.count) for block in removed]
    )
    assert torch.allclose(columns[weakest], added[strongest], atol=1e-6)
    stay = sorted(set(range(layout.count)) - set(weakest.tolist()))
    assert torch.allclose(after[:, stay], own[:, stay], atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("model_type", ["mixtral", "olmoe", "gpt_oss"])
def test_a_mixture_of_experts_has_none_to_be_told(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor], model_type: str
) -> None:
    view = BlockModel.from_model(make_model(model_type))
    state = view.embed(make_ids(2, 6))
    assert [layout_of(block, state) for block in view.blocks()] == [None] * view.n_blocks


@torch.no_grad()
def test_what_is_between_the_neurons_and_the_down_projection_gives_none(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    """Such as a norm with weights of its own for each: a neuron would be another in another place."""
    model: Any = make_model()
    view = BlockModel.from_model(model)
    state = view.embed(make_ids(2, 6))
    (block,) = view.blocks([0])
    assert layout_of(block, state) is not None
    scale = torch.linspace(0.2, 3, 48)
    model.model.layers[0].mlp.up_proj.register_forward_hook(lambda _module, _args, output: output * scale)
    assert layout_of(block, state) is None


@torch.no_grad()
def test_their_worth_is_the_mean_size_of_what_they_add(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    view = BlockModel.from_model(make_model())
    states = [view.embed(make_ids(2, 6)), view.embed(make_ids(3, 6, seed=1))]
    (block,) = view.blocks([1])
    layout = layout_of(block, states[0])
    assert layout is not None
    left, worth = strengths(block, layout, states)
    assert [state.shape for state in left] == [state.shape for state in states]
    weight = block.module.get_parameter("mlp.down_proj.weight")
    sizes = torch.cat([activations(block, layout, state) for state in states]).abs()
    for neuron in range(layout.count):
        adds = [float(size * weight[:, neuron].norm()) for size in sizes[:, neuron]]
        assert float(worth[neuron]) == pytest.approx(sum(adds) / len(adds), rel=1e-5)


def test_of_two_blocks_the_strongest_stay_and_no_more_than_before() -> None:
    ours = Neurons(torch.tensor([5.0, 2.0]), (torch.tensor([[5.0], [2.0]]),))
    theirs = Neurons(torch.tensor([4.0, 3.0]), (torch.tensor([[4.0], [3.0]]),))
    both = ours.or_of(theirs)
    assert both.strength.tolist() == [5, 4]
    assert both.parts[0].tolist() == [[5], [4]]


def test_factors_and_offsets_between_two_norms_are_found_or_that_there_are_none() -> None:
    x = torch.randn(4, 20, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    factor, offset = torch.linspace(-2, 3, 8), torch.linspace(-1, 1, 8)
    y = x * factor + offset
    found = fold_of(x, y, offsets=True)
    assert found is not None
    assert torch.allclose(found[0], factor.double())
    assert torch.allclose(found[1], offset.double())
    assert fold_of(x, y, offsets=False) is None
    found = fold_of(x, x * factor, offsets=False)
    assert found is not None
    assert torch.allclose(found[0], factor.double())
    assert not found[1].any()
    assert fold_of(x, x.roll(1, -1), offsets=True) is None
