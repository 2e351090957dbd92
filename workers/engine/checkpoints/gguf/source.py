"""What a GGUF file says of its model, read key by key and tensor by tensor, with a record of what was read.

An import is right if nothing that the file says is left over. So every read is recorded, and at the end what was not
read is refused by name: a key that was overlooked would make a model that looks right and is another one. What may be
left over is listed here, each with the reason why it cannot matter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize
from torch import Tensor

from secateur.contract.errors import BadCheckpoint, UnsupportedModel
from secateur.foreign_files.json_objects import quoted
from workers.engine.checkpoints.gguf_file import BLOCK_SIZES, GgufHeader, GgufTensor, read_list

# Keys under the architecture's name that change nothing, whatever they say.
WITHOUT_EFFECT = frozenset(
    {
        "rope.scaling.finetuned",  # tells of the training; llama.cpp prints it
        "tensor_data_layout",  # tells of the file that was converted; llama.cpp does not read it
        "vocab_size",  # the embedding has that many rows, and they are counted
    }
)
# Keys that change nothing while they say this: the value that llama.cpp works with where there is none.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "attention.causal": (True,),
    "attention.clamp_kqv": (0.0,),
    "attention.max_alibi_bias": (0.0,),
    "attention.scale": (0.0,),
    "attention.sliding_window": (0,),
    "attn_logit_softcapping": (0.0,),
    "embedding_scale": (0.0, 1.0),
    "expert_count": (0,),
    "expert_group_count": (0, 1),
    "expert_shared_count": (0,),
    "expert_used_count": (0,),
    "expert_weights_scale": (0.0, 1.0),
    "final_logit_softcapping": (0.0,),
    "leading_dense_block_count": (0,),
    "logit_scale": (0.0, 1.0),
    "nextn_predict_layers": (0,),
    "pooling_type": (0,),
    "residual_scale": (0.0, 1.0),
    "rope.scaling.attn_factor": (1.0,),
    "use_parallel_residual": (False,),
}
# Prefixes of keys that are no part of the model: where the file came from, how it was quantised and split. llama.cpp
# reads `general.`, `tokenizer.` and the architecture's own keys alone; the first are names, authors, licences, the
# alignment (which the reader of the head heeds) and settings for drawing text.
NOT_THE_MODEL = ("general.", "quantize.", "split.", "imatrix.", "mradermacher.", "unsloth.")


class Source:
    """A GGUF file whose head has been checked. Not thread-safe: it records what is read."""

    def __init__(self, header: GgufHeader) -> None:
        self.header = header
        self.name = header.path.name
        self.architecture = header.architecture
        self.tensors: dict[str, GgufTensor] = {tensor.name: tensor for tensor in header.tensors}
        self.read_keys: set[str] = set()
        self.read_tensors: set[str] = set()

    # --- keys, under the architecture's name ------------------------------------------------------------------------

    def raw(self, key: str) -> Any:
        """The value of any key, whole name and all, or None."""
        self.read_keys.add(key)
        found = self.header.values.get(key)
        return None if found is None else found.value

    def whole(self, key: str, default: int | None = None) -> int:
        """A whole number of at least 0. An array that says the same for every block is that number.

        Raises:
            BadCheckpoint: it is missing where there is no default, or no such number.
            UnsupportedModel: it differs from block to block.
        """
        value = self._one(key)
        if value is None and default is not None:
            return default
        if type(value) is not int or not 0 <= value < 1 << 31:
            raise self.bad(f"the key {self._named(key)} is missing or no count")
        return value

    def real(self, key: str, default: float | None = None) -> float:
        """A finite number: the shortest decimal that is the same float32.

        Raises:
            BadCheckpoint: it is missing where there is no default, or no number.
        """
        value = self._one(key)
        if value is None and default is not None:
            return default
        if type(value) not in (int, float) or not math.isfinite(value):
            raise self.bad(f"the key {self._named(key)} is missing or no number")
        return float(str(np.float32(value)))

    def text(self, key: str, default: str) -> str:
        value = self.raw(f"{self.architecture}.{key}")
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.bad(f"the key {self._named(key)} is no string")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.raw(f"{self.architecture}.{key}")
        if value is None:
            return default
        if type(value) is not bool:
            raise self.bad(f"the key {self._named(key)} is neither true nor false")
        return value

    def has(self, key: str) -> bool:
        return f"{self.architecture}.{key}" in self.header.values

    def array(self, key: str) -> list[Any] | None:
        """All elements of an array under any key, or None where there is none."""
        self.read_keys.add(key)
        return read_list(self.header, key) if key in self.header.values else None

    def _one(self, key: str) -> Any:
        """The value, or the one value of all blocks."""
        value = self.raw(f"{self.architecture}.{key}")
        if isinstance(value, list) and value:
            if any(entry != value[0] for entry in value):
                raise self.unsupported(f"the blocks differ from each other in {self._named(key)}")
            return value[0]
        return value

    def _named(self, key: str) -> str:
        return quoted(f"{self.architecture}.{key}")

    # --- tensors ----------------------------------------------------------------------------------------------------

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape as torch orders it.

        Raises:
            BadCheckpoint: there is no such tensor.
        """
        return tuple(reversed(self._tensor(name).shape))

    def any_tensor(self, ending: str) -> bool:
        return any(name.endswith(ending) for name in self.tensors)

    def load(self, name: str) -> Tensor:
        """The tensor in float32, dequantised.

        Raises:
            BadCheckpoint: there is no such tensor.
            UnsupportedModel: its type cannot be dequantised.
        """
        tensor = self._tensor(name)
        shape = self.outline(name).shape
        raw = np.memmap(self.header.path, mode="r", offset=tensor.start, shape=(tensor.nbytes,), dtype=np.uint8)
        values = dequantize(_typed(raw, tensor, shape), GGMLQuantizationType(tensor.kind))
        return torch.from_numpy(np.array(values, dtype=np.float32).reshape(shape))

    def outline(self, name: str) -> Tensor:
        """The tensor without its values: what `load` would give, on the device "meta".

        Raises:
            As `load`.
        """
        tensor = self._tensor(name)
        self.read_tensors.add(name)
        if not _can_be_read(tensor.kind):
            raise self.unsupported(f"the type {tensor.type_name} of {quoted(name)} cannot be read")
        return torch.empty(tuple(reversed(tensor.shape)), device="meta")

    def _tensor(self, name: str) -> GgufTensor:
        found = self.tensors.get(name)
        if found is None:
            raise self.bad(f"the tensor {quoted(name)} is missing, which a {self.architecture} model needs")
        return found

    # --- the account ------------------------------------------------------------------------------------------------

    def check_all_read(self) -> None:
        """Refuse what was not read and may matter.

        Raises:
            UnsupportedModel: names the first such key or tensor.
        """
        prefix = f"{self.architecture}."
        for key, value in self.header.values.items():
            if key in self.read_keys or key.startswith(NOT_THE_MODEL):
                continue
            part = key.removeprefix(prefix)
            if key.startswith(prefix) and (part in WITHOUT_EFFECT or _is_neutral(value.value, NEUTRAL.get(part, ()))):
                continue
            raise self.unsupported(
                f"the key {quoted(key)} says something about the model that is not known here for {self.architecture}"
            )
        left = [name for name in self.tensors if name not in self.read_tensors]
        if left:
            more = f", and {len(left) - 1} more," if len(left) > 1 else ""
            raise self.unsupported(
                f"the tensor {quoted(left[0])}{more} has no place in a {self.architecture} model here"
            )

    def bad(self, sentence: str) -> BadCheckpoint:
        return BadCheckpoint(f"{self.name}: {sentence}.")

    def unsupported(self, sentence: str) -> UnsupportedModel:
        return UnsupportedModel(f"{self.name}: {sentence}, so the GGUF file cannot be imported as it is.")


@lru_cache
def _can_be_read(kind: int) -> bool:
    """Whether the `gguf` package dequantises the type."""
    kind = GGMLQuantizationType(kind)
    if kind in (GGMLQuantizationType.F32, GGMLQuantizationType.F16):
        return True
    try:
        dequantize(np.zeros((1, BLOCK_SIZES[int(kind)][1]), dtype=np.uint8), kind)
    except NotImplementedError:
        return False
    return True


def _typed(raw: Any, tensor: GgufTensor, shape: tuple[int, ...]) -> Any:
    """The bytes as `dequantize` wants them: numbers of a plain type, or rows of packed bytes."""
    kind = GGMLQuantizationType(tensor.kind)
    plain = {GGMLQuantizationType.F32: np.float32, GGMLQuantizationType.F16: np.float16}.get(kind)
    if plain is not None:
        return raw.view(plain).reshape(shape)
    return raw.reshape(*shape[:-1], -1)


def _is_neutral(value: Any, neutral: Sequence[Any]) -> bool:
    values = value if isinstance(value, list) else [value]
    return bool(neutral) and all(entry in neutral for entry in values)
