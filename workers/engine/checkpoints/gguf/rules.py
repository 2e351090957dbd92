"""Which tensors of a GGUF file make which weight of a transformers model, and how.

A rule is looked up by the weight, so that every weight of the model has to be filled. Weight and bias of a module
follow the same rule. llama.cpp's converter changes some tensors on their way; a rule undoes that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Weight:
    """The weight that is made."""

    module: str  # within its block, such as "self_attn.q_proj"
    kind: str  # "weight" or "bias"
    config: Any  # the model's


# The tensors of the rule's parts → the weight.
Make = Callable[[Sequence[Tensor], Weight], Tensor]


def as_it_is(tensors: Sequence[Tensor], weight: Weight) -> Tensor:
    return tensors[0]


@dataclass(frozen=True, slots=True)
class Rule:
    parts: tuple[str, ...]  # names in the file, without "blk.N." and without ".weight" or ".bias"
    make: Make = as_it_is


def parts(*names: str, make: Make = as_it_is) -> Rule:
    return Rule(names, make)


def undo_rotary_halves(heads: Callable[[Any], int]) -> Make:
    """Undo llama.cpp's order of rotary dimensions, which has the two halves of a head side by side.

    (heads · size, …) → the same shape.
    """

    def make(tensors: Sequence[Tensor], weight: Weight) -> Tensor:
        rows = tensors[0]
        count = heads(weight.config)
        if rows.shape[0] % (2 * count):
            return rows  # no model; the shape is refused afterwards
        return rows.view(count, -1, 2, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)

    return make


query_halves = undo_rotary_halves(lambda config: config.num_attention_heads)
key_halves = undo_rotary_halves(lambda config: config.num_key_value_heads)


def less_one(tensors: Sequence[Tensor], weight: Weight) -> Tensor:
    """A norm's weight that is stored with the 1 that the model adds to it; biases stay."""
    return tensors[0] - 1 if weight.kind == "weight" else tensors[0]


def turned(tensors: Sequence[Tensor], weight: Weight) -> Tensor:
    """The matrix of a GPT-2 convolution, which is the transpose of a linear map's; biases stay."""
    return tensors[0].T.contiguous() if tensors[0].dim() == 2 else tensors[0]


def gate_then_up(tensors: Sequence[Tensor], weight: Weight) -> Tensor:
    """Two stacks of experts' matrices, (experts, width, hidden) each → (experts, 2 · width, hidden)."""
    return torch.cat(list(tensors), dim=1)


def own_row(tensors: Sequence[Tensor], weight: Weight) -> Tensor:
    """The row of a head, whose number ends the module's name."""
    number = int(weight.module.rpartition(".")[2])
    return tensors[0][number] if tensors[0].dim() == 2 and number < tensors[0].shape[0] else tensors[0]


def one_row(tensors: Sequence[Tensor], weight: Weight) -> Tensor:
    """A vector that is a linear map to one number."""
    return tensors[0].reshape(1, -1)


ATTENTION: Mapping[str, Rule] = {
    "self_attn.q_proj": parts("attn_q"),
    "self_attn.k_proj": parts("attn_k"),
    "self_attn.v_proj": parts("attn_v"),
    "self_attn.o_proj": parts("attn_output"),
}
ROTATED: Mapping[str, Rule] = {
    **ATTENTION,
    "self_attn.q_proj": parts("attn_q", make=query_halves),
    "self_attn.k_proj": parts("attn_k", make=key_halves),
}
GATED: Mapping[str, Rule] = {
    "mlp.gate_proj": parts("ffn_gate"),
    "mlp.up_proj": parts("ffn_up"),
    "mlp.down_proj": parts("ffn_down"),
}
EXPERTS: Mapping[str, Rule] = {
    "mlp.gate": parts("ffn_gate_inp"),
    "mlp.experts.gate_up_proj": parts("ffn_gate_exps", "ffn_up_exps", make=gate_then_up),
    "mlp.experts.down_proj": parts("ffn_down_exps"),
}
NORMS: Mapping[str, Rule] = {
    "input_layernorm": parts("attn_norm"),
    "post_attention_layernorm": parts("ffn_norm"),
}
HEAD_NORMS: Mapping[str, Rule] = {
    "self_attn.q_norm": parts("attn_q_norm"),
    "self_attn.k_norm": parts("attn_k_norm"),
}
OUTER: Mapping[str, Rule] = {
    "model.embed_tokens": parts("token_embd"),
    "model.norm": parts("output_norm"),
    "lm_head": parts("output"),
}
