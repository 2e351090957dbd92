"""What is known of a model without opening its weights: its config, the sizes that follow, and its bytes on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from secateur.contract.errors import BadCheckpoint
from secateur.contract.models.config_reader import ConfigReader
from secateur.contract.models.formulas import ParameterCount
from secateur.contract.models.parameters import key_value_size, parameter_count
from secateur.contract.models.quantised import quantised_by

_SIZES = ("intermediate_size", "num_attention_heads", "head_dim", "num_experts", "num_local_experts")
DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Stored:
    """Bytes of a checkpoint's tensors."""

    blocks: tuple[int, ...]  # of each block
    outside: int

    @property
    def total(self) -> int:
        return sum(self.blocks) + self.outside


@dataclass(frozen=True)
class KnownModel:
    """A model as its config describes it."""

    config: Mapping[str, Any]
    count: ParameterCount
    cached: int  # numbers that the cache keeps for a token in one block
    stored: Stored | None  # None where nothing tells
    notes: tuple[str, ...] = ()

    @property
    def hidden(self) -> int:
        """Numbers of a token's hidden state."""
        return int(next(self.config[key] for key in ("hidden_size", "n_embd", "n_embed") if key in self.config))

    @property
    def vocabulary(self) -> int:
        return int(self.config["vocab_size"])


def known_model(config: Mapping[str, Any], stored: Stored | None = None) -> KnownModel | None:
    """The model of this config; None where no formula is known for its family.

    Args:
        stored: its bytes on disk, where these were seen; else they follow from the config's dtype.

    Raises:
        BadCheckpoint: the config lacks a size that its family needs, or has none where a size stands.
    """
    count, cached = parameter_count(config), key_value_size(config)
    if count is None or cached is None or not count.blocks or count.total <= 0:
        return None
    _check(ConfigReader(config))
    notes: tuple[str, ...] = ()
    if stored is None and quantised_by(config) is None:
        width = dtype_bytes(config)
        if width is None:
            notes = ("The config names no dtype of the weights, so they are taken for float32.",)
        stored = in_bytes(count, width or DTYPE_BYTES["float32"])
    return KnownModel(config, count, cached, stored, notes)


def _check(reader: ConfigReader) -> None:
    """What estimates read of a config beside what its family's formula does: sizes, and a vocabulary that holds one."""
    for name in _SIZES:
        reader.number(name, default=1)
    if not reader.number("vocab_size"):
        raise BadCheckpoint.field("/model", "config.json: vocab_size is 0.", value=0, expected="a whole number above 0")


def in_bytes(count: ParameterCount, width: int) -> Stored:
    """The bytes of weights that all take `width` bytes."""
    blocks = [block.total for block in count.blocks]
    return Stored(tuple(width * size for size in blocks), width * (count.total - sum(blocks)))


def dtype_bytes(config: Mapping[str, Any]) -> int | None:
    """Bytes of a weight by the dtype that the config names."""
    named = config.get("dtype") or config.get("torch_dtype")
    return DTYPE_BYTES.get(named) if isinstance(named, str) else None


def stored_bytes(tensors: Sequence[tuple[int | None, int]], blocks: int) -> Stored:
    """Bytes by place, of tensors each given with its block (None: outside) and its bytes."""
    sums = [0] * blocks
    outside = 0
    for block, size in tensors:
        if block is None or block >= blocks:
            outside += size
        else:
            sums[block] += size
    return Stored(tuple(sums), outside)
