"""A block without a half passes the residual stream on, in every family."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from workers.engine.model.block_model import BlockModel
from workers.engine.model.reduced_blocks import without_halves


def test_without_both_halves_a_block_is_the_identity(
    family: str, make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    view = BlockModel.from_model(make_model(family))
    hidden = view.embed(make_ids())
    with torch.no_grad():
        for block in view.blocks():
            whole = block(hidden)
            with without_halves(block, ("attention", "mlp")):
                assert torch.equal(block(hidden), hidden)
            for half in ("attention", "mlp"):
                with without_halves(block, (half,)):
                    part = block(hidden)
                assert not torch.equal(part, hidden)
                assert not torch.equal(part, whole)
            assert torch.equal(block(hidden), whole)  # nothing stays behind


@pytest.mark.parametrize("half", ["attention", "mlp"])
def test_a_llama_block_without_a_half_is_what_the_formula_says(
    half: str, make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    view = BlockModel.from_model(make_model())
    hidden = view.embed(make_ids())
    block = next(iter(view.blocks()))
    call = view.calls(*hidden.shape[:2])[0]
    layer = block.module
    with torch.no_grad():
        if half == "mlp":
            normed = layer.get_submodule("input_layernorm")(hidden)
            expected = hidden + layer.get_submodule("self_attn")(normed, **call.kwargs)[0]
        else:
            normed = layer.get_submodule("post_attention_layernorm")(hidden)
            expected = hidden + layer.get_submodule("mlp")(normed)
        with without_halves(block, (half,)):  # type: ignore[arg-type]  # a parameter of the test
            torch.testing.assert_close(block(hidden), expected)
