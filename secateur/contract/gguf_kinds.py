"""What a GGUF file's weights are written in: how large each type of tensor is, and which a kind of file gives to which.

A kind of file, such as Q4_K_M, says which tensor gets which type; llama.cpp's own quantiser spends more bits on the
values of attention, on the map out of the MLP and on the head, and the mixes here are its mixes, so a name means here
what it means there. Rows that a type's blocks do not fill get a type of smaller blocks, as there. How a type rounds is
the engine's (`workers/engine/quantise/gguf_types.py`).

The rules of the mixes: https://github.com/ggml-org/llama.cpp/blob/master/src/llama-quant.cpp, `llama_tensor_get_type`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_BLOCK = re.compile(r"^blk\.(\d+)\.")
# Weights of a row that are written together, and their bytes.
SIZES: Mapping[str, tuple[int, int]] = {
    **{"F32": (1, 4), "F16": (1, 2), "BF16": (1, 2), "Q8_0": (32, 34)},
    **{"Q5_1": (32, 24), "Q5_0": (32, 22), "Q4_1": (32, 20), "Q4_0": (32, 18)},
    **{"Q6_K": (256, 210), "Q5_K": (256, 176), "Q4_K": (256, 144), "Q3_K": (256, 110), "Q2_K": (256, 84)},
}
# Where 256 does not divide a row, as llama.cpp has it. It takes IQ4_NL, of the size of Q4_0, for the last two.
_INSTEAD = {"Q6_K": "Q8_0", "Q5_K": "Q5_1", "Q4_K": "Q5_0", "Q3_K": "Q4_0", "Q2_K": "Q4_0"}


def fills(type_name: str, columns: int) -> bool:
    """Whether blocks of the type make up a row."""
    return columns % SIZES[type_name][0] == 0


def fitting(type_name: str, columns: int) -> str:
    """The type, or the one that llama.cpp takes in its place where its blocks do not fill a row."""
    found = (name for name in (type_name, _INSTEAD.get(type_name, "F16")) if fills(name, columns))
    return next(found, "F16")


def tensor_bytes(type_name: str, shape: tuple[int, ...]) -> int:
    """Of a tensor of this type and shape, rows first."""
    weights, size = SIZES[type_name]
    return math.prod(shape) // weights * size


@dataclass(frozen=True, slots=True)
class Place:
    """A tensor's place in the model, by which a mix decides."""

    name: str  # in the file
    shape: tuple[int, ...]  # rows first
    blocks: int  # of the model
    shares: int  # query heads of each key-value head
    experts: int  # 0 where there are none
    tied: bool  # whether the embedding is the head

    @property
    def block(self) -> int:
        found = _BLOCK.match(self.name)
        return int(found[1]) if found else 0

    def has(self, part: str) -> bool:
        return part in self.name

    @property
    def is_vector(self) -> bool:
        """Norms and biases, and the router of a mixture, which is small and chooses."""
        return len(self.shape) == 1 or self.name.endswith("ffn_gate_inp.weight")

    @property
    def gets_more_bits(self) -> bool:
        """The first and last eighth of the blocks, and every third between."""
        first, last = self.blocks // 8, 7 * self.blocks // 8
        return self.block < first or self.block >= last or (self.block - first) % 3 == 2


@dataclass(frozen=True, slots=True)
class FileKind:
    """A kind of file: llama.cpp's number of it, and the type of each matrix."""

    number: int  # general.file_type
    choose: Callable[[Place], str]

    def type_of(self, place: Place) -> str:
        return "F32" if place.is_vector else fitting(self.choose(place), place.shape[-1])


def _one(type_name: str) -> Callable[[Place], str]:
    return lambda place: type_name


def _fine_ends(type_name: str) -> Callable[[Place], str]:
    """Embedding and head in Q8_0."""
    return lambda place: "Q8_0" if place.name in ("token_embd.weight", "output.weight") else type_name


Choice = str | Callable[[Place], str]


@dataclass(frozen=True, slots=True)
class Mix:
    """llama.cpp's mix of K types: the main type, and what parts of a block get in its place."""

    main: str
    values: Choice | None = None  # of attention
    down: Choice | None = None  # the map out of the MLP
    out: Choice | None = None  # that of attention
    fused: Choice | None = None  # queries, keys and values in one

    def __call__(self, place: Place) -> str:
        if place.name == "output.weight" or (place.tied and place.name == "token_embd.weight"):
            return "Q6_K" if place.shape[-1] % 256 == 0 else "Q8_0"
        if place.experts == 8 and (place.has("attn_v.weight") or place.has("attn_k.weight")):
            return "Q8_0"
        if place.has("attn_v.weight"):
            found = self._of(self.values, place)
            return "Q5_K" if place.blocks == 80 and place.shares > 1 and found in ("Q3_K", "Q4_K") else found
        if place.has("ffn_down"):
            return self._of(self.down, place)
        if place.has("attn_output.weight"):
            return "Q5_K" if place.experts == 8 and self.main in ("Q2_K", "Q3_K", "Q4_K") else self._of(self.out, place)
        return self._of(self.fused, place) if place.has("attn_qkv.weight") else self.main

    def _of(self, choice: Choice | None, place: Place) -> str:
        return self.main if choice is None else choice if isinstance(choice, str) else choice(place)


def _where(condition: Callable[[Place], bool], chosen: str, other: str) -> Callable[[Place], str]:
    return lambda place: chosen if condition(place) else other


def _more(chosen: str, other: str) -> Callable[[Place], str]:
    return _where(lambda place: place.gets_more_bits, chosen, other)


# Kind of file → its mix, the finest first. The options of the service name the same kinds.
FILE_KINDS: Mapping[str, FileKind] = {
    "F16": FileKind(1, _one("F16")),
    "BF16": FileKind(32, _one("BF16")),
    "Q8_0": FileKind(7, _one("Q8_0")),
    "Q6_K": FileKind(18, Mix("Q6_K")),
    "Q5_K_M": FileKind(17, Mix("Q5_K", values=_more("Q6_K", "Q5_K"), down=_more("Q6_K", "Q5_K"), fused="Q6_K")),
    "Q5_K_S": FileKind(16, Mix("Q5_K")),
    "Q5_1": FileKind(9, _fine_ends("Q5_1")),
    "Q5_0": FileKind(8, _fine_ends("Q5_0")),
    "Q4_K_M": FileKind(15, Mix("Q4_K", values=_more("Q6_K", "Q4_K"), down=_more("Q6_K", "Q4_K"), fused="Q5_K")),
    "Q4_K_S": FileKind(
        14,
        Mix(
            "Q4_K",
            values=_where(lambda place: place.block < 4, "Q5_K", "Q4_K"),
            down=_where(lambda place: place.block < place.blocks // 8, "Q5_K", "Q4_K"),
        ),
    ),
    "Q4_1": FileKind(3, _fine_ends("Q4_1")),
    "Q4_0": FileKind(2, _fine_ends("Q4_0")),
    "Q3_K_M": FileKind(
        12,
        Mix(
            "Q3_K",
            values=_where(lambda place: place.block < 2, "Q5_K", "Q4_K"),
            down=_where(lambda place: place.block < place.blocks // 16, "Q5_K", "Q4_K"),
            out="Q4_K",
            fused="Q4_K",
        ),
    ),
    "Q3_K_S": FileKind(11, Mix("Q3_K")),
    "Q2_K": FileKind(
        10,
        Mix("Q2_K", values=_where(lambda place: place.shares >= 4, "Q4_K", "Q3_K"), down="Q3_K", out="Q3_K"),
    ),
}
