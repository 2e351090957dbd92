"""Which projections of a block a closed form can change, in every family, and what a change does to the block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from workers.engine.healing.projections import changed, projections_of, watched
from workers.engine.model.block_model import BlockModel

NONE = {"gemma2", "gemma3_text", "olmo2"}  # a norm follows attention and MLP


@torch.no_grad()
def test_a_change_of_what_is_found_is_what_it_takes_times_the_change(
    family: str, make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    """So the walk may fit it by least squares: the state moves by exactly that."""
    view = BlockModel.from_model(make_model(family))
    state = view.embed(make_ids(2, 6))
    found = 0
    for block in view.blocks():
        projections = projections_of(block, state)
        if projections.down is None:
            assert projections.attention is None
        else:
            found += 1
            with watched(block.module, [projections.down.path]) as seen:
                before = block(state)
            inputs = projections.down.inputs(seen[projections.down.path])
            change = torch.randn(inputs.shape[1], view.hidden_size, generator=torch.Generator().manual_seed(3)) / 50
            parameters = projections.down.as_parameters(change)
            assert tuple(parameters) == projections.down.parameters
            with changed(block.module, parameters):
                after = block(state)
            assert torch.allclose(after, before + (inputs @ change).view_as(before), atol=1e-5)
            assert torch.equal(block(state), before)  # and nothing of it stays
        state = block(state)
    if family in NONE:
        assert found == 0


@torch.no_grad()
@pytest.mark.parametrize("model_type", ["llama", "qwen2", "gpt2", "gpt_neox", "granite"])
def test_a_change_of_the_attention_moves_the_state_before_the_mlp(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor], model_type: str
) -> None:
    view = BlockModel.from_model(make_model(model_type))
    state = view.embed(make_ids(2, 6))
    block = next(iter(view.blocks([0])))
    found = projections_of(block, state)
    assert found.attention is not None
    assert found.down is not None
    paths = [found.attention.path, found.down.path]

    def halfway() -> Tensor:
        with watched(block.module, paths) as seen:
            left = block(state)
        inputs.append(found.attention.inputs(seen[paths[0]]) if found.attention else left)
        return left - (found.down.added(seen[paths[1]], left) if found.down else left)

    inputs: list[Tensor] = []
    before = halfway()
    change = torch.randn(inputs[0].shape[1], view.hidden_size, generator=torch.Generator().manual_seed(3)) / 50
    with changed(block.module, found.attention.as_parameters(change)):
        after = halfway()
    assert torch.allclose(after, before + (inputs[0] @ change).view_as(before), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("model_type", ["llama", "qwen3", "gpt2", "granite", "gemma2"])
def test_the_same_are_found_in_bf16_where_the_state_is_much_greater_than_what_is_added(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor], model_type: str
) -> None:
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        model: Any = make_model(model_type)
        view = BlockModel.from_model(model.to(dtype))
        state = 300 * view.embed(make_ids(2, 6))
        found.append([projections_of(block, state) for block in view.blocks()])
        assert {parameter.dtype for block in view.blocks() for parameter in block.module.parameters()} == {dtype}
    for wide, narrow in zip(*found, strict=True):
        assert (wide.down is None) == (narrow.down is None) == (model_type == "gemma2")
        for before, after in ((wide.down, narrow.down), (wide.attention, narrow.attention)):
            if before is not None:
                assert after is not None
                assert after.factor == pytest.approx(before.factor, rel=1e-2)
                assert (after.factor == 1) == (model_type != "granite")
