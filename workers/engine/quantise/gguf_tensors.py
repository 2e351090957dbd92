"""Which tensors a GGUF file has, and how each is made of a checkpoint's. In what type each is written, others say.

The names are llama.cpp's, which the `gguf` package lists by family, and so is the order of rotary dimensions: it pairs
neighbours where transformers pairs the two halves of a head, so the rows of Llama's queries and keys are interleaved.
Gemma's and Nemotron's norms are stored with the 1 that the model adds to them, GPT-2's convolutions as the linear maps
that they are. The experts of a block, which checkpoints store one by one, are one tensor in the file, and so are the
norms of StableLM's heads.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gguf
import torch
from torch import Tensor

from secateur.contract.errors import UnsupportedModel
from secateur.contract.gguf_kinds import Place
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.quantise.gguf_config import DECI, rope_divisors
from workers.engine.quantise.gguf_gemma import FAMILIES as GEMMAS

# One expert's matrix: Mixtral's names, and those of the others.
_EXPERT = re.compile(r"\.layers\.(\d+)\.(?:mlp|block_sparse_moe)\.experts\.(\d+)\.(\w+)\.weight$")
_EXPERT_PARTS = {
    **{"w1": "gate", "w2": "down", "w3": "up"},
    **{"gate_proj": "gate", "down_proj": "down", "up_proj": "up"},
}
_HEAD_NORM = re.compile(r"\.layers\.(\d+)\.self_attn\.([qk])_layernorm\.norms\.(\d+)\.weight$")
_INTERLEAVED = ("llama", DECI, "granite")
_ONE_MORE = (*GEMMAS, "nemotron")
_CONVOLUTIONS = ("attn_qkv.weight", "attn_output.weight", "ffn_up.weight", "ffn_down.weight")


@dataclass(frozen=True)
class Weight:
    """A tensor of the new file."""

    place: Place
    make: Callable[[], Tensor]  # its values, in float32

    @property
    def name(self) -> str:
        return self.place.name


def weights_of(checkpoint: Checkpoint, config: Any, architecture: str) -> list[Weight]:
    """The model's weights as the file holds them, in the order of the checkpoint.

    Args:
        architecture: llama.cpp's name of the family.

    Raises:
        UnsupportedModel: llama.cpp has no name for a tensor, or a block lacks some of its experts or heads.
    """
    found: list[tuple[str, tuple[int, ...], Callable[[], Tensor]]] = []
    stacks: dict[str, dict[int, str]] = {}  # name in the file → number in the stack → name in the checkpoint
    counts: dict[str, int] = {}  # how many a stack must have
    for name, new in _names(checkpoint, config, architecture).items():
        shape = checkpoint.shape(name)
        if expert := _EXPERT.search(name):
            stacks.setdefault(new, {})[int(expert[2])] = name
            counts[new] = _expert_count(config)
        elif norm := _HEAD_NORM.search(name):
            stacks.setdefault(new, {})[int(norm[3])] = name
            counts[new] = config.num_attention_heads if norm[2] == "q" else config.num_key_value_heads
        else:
            make = _reader(checkpoint, config, architecture, name, new)
            found.append((new, _shape(architecture, new, shape), make))
    for new, parts in stacks.items():
        missing = sorted({*range(counts[new])} ^ {*parts})
        if missing or len({checkpoint.shape(name) for name in parts.values()}) != 1:
            what = "experts" if _EXPERT.search(next(iter(parts.values()))) else "heads"
            reason = f"The checkpoint has not {counts[new]} {what} of one size for {new}."
            raise UnsupportedModel.field("kind", reason, expected="a plain model of its type")
        stored = [parts[number] for number in range(len(parts))]
        found.append((new, (len(stored), *checkpoint.shape(stored[0])), _stack(checkpoint, stored)))
    tied = all(name != "output.weight" for name, _, _ in found)
    return [Weight(_place(name, shape, config, tied), make) for name, shape, make in found]


def rope_weights(config: Any) -> list[Weight]:
    """What Llama 3.1's rule has in the place of keys: one tensor; none for other rotary embeddings.

    Args:
        config: as `gguf_config.supported` gives it.
    """
    divisors = rope_divisors(config)
    if divisors is None:
        return []
    return [Weight(_place("rope_freqs.weight", tuple(divisors.shape), config, tied=False), lambda: divisors)]


def _names(checkpoint: Checkpoint, config: Any, architecture: str) -> dict[str, str]:
    """By the checkpoint's name the file's; the tied head is left out."""
    kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(kinds[architecture], config.num_hidden_layers)
    stored = checkpoint.names()
    found = {}
    for name in stored:
        if norm := _HEAD_NORM.search(name):
            found[name] = f"blk.{norm[1]}.attn_{norm[2]}_norm.weight"
            continue
        if (expert := _EXPERT.search(name)) and expert[3] in _EXPERT_PARTS:
            found[name] = f"blk.{expert[1]}.ffn_{_EXPERT_PARTS[expert[3]]}_exps.weight"
            continue
        new = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if new is None:
            raise UnsupportedModel.field(
                "kind", f"llama.cpp has no name for the tensor {name}.", expected="a plain model of its type"
            )
        if new == "output.weight" and config.tie_word_embeddings:
            if any(names.get_name(other, try_suffixes=(".weight",)) == "token_embd.weight" for other in stored):
                continue
            new = "token_embd.weight"  # the tied matrix is stored under the head's name alone
        found[name] = new
    return found


def _shape(architecture: str, new: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """As the file has it: the shared experts' gate, a map to one number, is a vector."""
    if architecture == "gpt2" and new.endswith(_CONVOLUTIONS):
        return tuple(reversed(shape))
    return shape[1:] if new.endswith("ffn_gate_inp_shexp.weight") else shape


def _place(name: str, shape: tuple[int, ...], config: Any, tied: bool) -> Place:
    return Place(
        name=name,
        shape=shape,
        blocks=config.num_hidden_layers,
        shares=config.num_attention_heads // _key_value_heads(config),
        experts=_expert_count(config),
        tied=tied,
    )


def _key_value_heads(config: Any) -> int:
    return int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)


def _reader(checkpoint: Checkpoint, config: Any, architecture: str, name: str, new: str) -> Callable[[], Tensor]:
    rotated = {"attn_q": config.num_attention_heads, "attn_k": _key_value_heads(config)}
    part = new.split(".")[2] if new.startswith("blk.") else ""
    heads = rotated.get(part) if architecture in _INTERLEAVED else None
    one_more = architecture in _ONE_MORE and new.endswith("norm.weight")
    turned = architecture == "gpt2" and new.endswith(_CONVOLUTIONS)

    def read() -> Tensor:
        tensor = checkpoint.read(name).float()
        if heads is not None:
            tensor = interleave(tensor, heads)
        if one_more:
            tensor = tensor + 1
        if turned:
            return tensor.T.contiguous()
        return tensor.reshape(_shape(architecture, new, tuple(tensor.shape)))

    return read


def _stack(checkpoint: Checkpoint, names: list[str]) -> Callable[[], Tensor]:
    return lambda: torch.stack([checkpoint.read(name).float() for name in names])


def _expert_count(config: Any) -> int:
    return int(getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None) or 0)


def interleave(weight: Tensor, heads: int) -> Tensor:
    """Rows of queries or keys from transformers' order to llama.cpp's: the two halves of each head take turns.

    (heads · size, …) → the same shape.
    """
    return weight.view(heads, 2, -1, *weight.shape[1:]).transpose(1, 2).reshape(weight.shape)
