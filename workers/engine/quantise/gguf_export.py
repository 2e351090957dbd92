"""A checkpoint as one GGUF file for llama.cpp: weights in a block type, settings, tokenizer.

The tensors take llama.cpp's names, which the `gguf` package lists by family, and its order of rotary dimensions: it
pairs neighbours where transformers pairs the two halves of a head, so the rows of Llama's queries and keys are
interleaved. Matrices are rounded by the package, block by block, one tensor in memory at a time; norms and biases stay
float32. Types of 4 and 5 bits keep embedding and head in Q8_0, as llama.cpp's own quantiser keeps those finer. The
families are those for which transformers reads the file back as the same model, which the benchmarks rely on.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.quants import dequantize, quantize
from torch import Tensor
from transformers import PretrainedConfig

from app.errors import InvalidInput, StageFailed, UnsupportedModel
from workers.engine.architectures.config import as_config
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.gguf_file import (
    BLOCK_SIZES,
    DEFAULT_ALIGNMENT,
    MAGIC,
    STRING,
    GgufTensor,
    encode_tensors,
    encode_value,
    padding,
    read_gguf_header,
)
from workers.engine.checkpoints.new_folder import new_folder
from workers.engine.models import load_tokenizer
from workers.engine.progress import Progress, no_progress
from workers.engine.pruning.loader import needs_loader
from workers.engine.quantise.gguf_tokenizer import UINT32, tokenizer_keys
from workers.engine.quantise.outcome import Outcome

FLOAT32 = 6  # value type
Kind: Any = gguf.GGMLQuantizationType  # an enum whose members are numbers
_ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}  # model type → llama.cpp's
_FILE_TYPES = {"F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "BF16": 32}  # general.file_type
TYPES = frozenset(_FILE_TYPES)  # that a file may be written in
_QWEN3_HEAD = 128  # of every published model; transformers' reader looks at no other
_FINE = frozenset({"token_embd.weight", "output.weight"})
_COARSE_TYPES = frozenset({"Q4_0", "Q4_1", "Q5_0", "Q5_1"})


@dataclass(frozen=True)
class _Planned:
    tensor: GgufTensor  # name, shape and type in the new file
    source: str  # name in the checkpoint
    rotary_heads: int | None  # of queries and keys whose rows are interleaved


def refuse_unsupported(source: Path, *, tokenizer_from: Path | None, pointer: str) -> None:
    """Say now, from config, headers and tokenizer alone, whether `export_gguf` would refuse the checkpoint.

    Raises:
        UnsupportedModel: as `export_gguf`.
    """
    checkpoint = Checkpoint.open(source)
    config = _supported(checkpoint, pointer)
    _plan(checkpoint, config, "Q8_0", pointer)
    _tokenizer(source, checkpoint, tokenizer_from, pointer)


def export_gguf(
    source: Path,
    target: Path,
    *,
    type_name: str,
    tokenizer_from: Path | None = None,
    pointer: str = "/quantise/0",
    progress: Progress = no_progress,
) -> Outcome:
    """Write the checkpoint `source` as the only file of the new folder of `target`.

    The folder appears under its name only when the file is complete and its head can be read.

    Args:
        target: the file to write; its folder must not exist.
        type_name: a GGML type, such as "Q8_0".
        tokenizer_from: a GGUF file of the same vocabulary whose tokenizer is copied; None: made from the checkpoint's.
        pointer: of the spec's object, for errors.
        progress: counts tensors.

    Raises:
        UnsupportedModel: transformers and llama.cpp would not read the same model from the file, or llama.cpp would cut
            text otherwise than the tokenizer does.
        StageFailed: the disk is full, or the folder exists.
    """
    checkpoint = Checkpoint.open(source)
    config = _supported(checkpoint, pointer)
    plan = _plan(checkpoint, config, type_name, pointer)
    keys = [*_general_keys(config, source.name, type_name), *_tokenizer(source, checkpoint, tokenizer_from, pointer)]
    tensors = [planned.tensor for planned in plan]
    head = MAGIC + struct.pack("<IQQ", 3, len(plan), len(keys)) + b"".join(keys)
    head += encode_tensors(tensors, DEFAULT_ALIGNMENT)
    stored = quantised = other = 0
    error = weight = 0.0
    with new_folder(target.parent) as folder:
        with (folder / target.name).open("wb") as file:
            file.write(head + bytes(padding(len(head), DEFAULT_ALIGNMENT)))
            for done, planned in enumerate(plan, start=1):
                values = _values(checkpoint, planned)
                raw = quantize(values, Kind(planned.tensor.kind))
                if raw.nbytes != planned.tensor.nbytes:
                    raise StageFailed(f"{planned.tensor.name} takes {raw.nbytes} bytes, not {planned.tensor.nbytes}.")
                file.write(np.ascontiguousarray(raw).data)
                file.write(bytes(padding(raw.nbytes, DEFAULT_ALIGNMENT)))
                if planned.tensor.kind == Kind.F32:
                    other += values.size
                else:
                    back = dequantize(raw, Kind(planned.tensor.kind))
                    error += float(np.square(back - values, dtype=np.float32).sum(dtype=np.float64))
                    weight += float(np.square(values).sum(dtype=np.float64))
                    stored, quantised = stored + raw.nbytes, quantised + values.size
                progress(done, len(plan), "tensors")
        read_gguf_header(folder / target.name)
    return Outcome(
        bytes=sum(tensor.nbytes for tensor in tensors),
        quantised_parameters=quantised,
        other_parameters=other,
        bits_per_weight=8 * stored / quantised if quantised else 0.0,
        relative_error=math.sqrt(error / weight) if weight else 0.0,
    )


def _supported(checkpoint: Checkpoint, pointer: str) -> PretrainedConfig:
    """The config of a model that the file can say everything about."""

    def refuse(reason: str) -> InvalidInput:
        return UnsupportedModel.field(pointer, reason, expected=expected)

    expected = f"a plain model of one of the types {', '.join(sorted(_ARCHITECTURES))}"
    written = checkpoint.config
    if needs_loader(written):
        raise refuse("Blocks that differ from each other cannot be said in a GGUF file.")
    if written.get("quantization_config") is not None:
        raise refuse("The model's weights are quantised already.")
    config: Any = as_config(written)
    if config.model_type not in _ARCHITECTURES:
        raise refuse(f'Models of the type "{config.model_type}" are not written as GGUF here.')
    rope = config.rope_parameters or {}
    if rope.get("rope_type", "default") != "default":
        raise refuse(f'The rotary embedding is scaled ("{rope["rope_type"]}"), which is not written as GGUF here.')
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        raise refuse("The attention has a sliding window, which llama.cpp would not keep for this type.")
    if getattr(config, "mlp_bias", False) or (
        config.model_type != "qwen2" and getattr(config, "attention_bias", False)
    ):
        raise refuse("The projections have biases that this type has not in a GGUF file.")
    if config.model_type == "qwen3" and config.head_dim != _QWEN3_HEAD:
        raise refuse(f"Heads have a size of {config.head_dim}, and transformers reads {_QWEN3_HEAD} into such a file.")
    if config.hidden_act != "silu":
        raise refuse(f'The activation is "{config.hidden_act}", and this type has silu in a GGUF file.')
    return config  # type: ignore[no-any-return]  # Any, for its family's fields


def _plan(checkpoint: Checkpoint, config: Any, type_name: str, pointer: str) -> list[_Planned]:
    """What each tensor becomes, in the order of the checkpoint."""
    architecture = _ARCHITECTURES[config.model_type]
    kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(kinds[architecture], config.num_hidden_layers)
    plan = []
    stored = checkpoint.names()
    for name in stored:
        new = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if new is None:
            raise UnsupportedModel.field(
                pointer, f"llama.cpp has no name for the tensor {name}.", expected="a plain model of its type"
            )
        if new == "output.weight" and config.tie_word_embeddings:
            if any(names.get_name(other, try_suffixes=(".weight",)) == "token_embd.weight" for other in stored):
                continue
            new = "token_embd.weight"  # the tied matrix is stored under the head's name alone
        rotary = None
        if architecture == "llama" and ".attn_q." in new:
            rotary = config.num_attention_heads
        elif architecture == "llama" and ".attn_k." in new:
            rotary = config.num_key_value_heads
        shape = tuple(reversed(checkpoint.shape(name)))
        kind = _kind(new, shape, type_name)
        elements, block = BLOCK_SIZES[int(kind)]
        plan.append(_Planned(GgufTensor(new, shape, int(kind), 0, math.prod(shape) // elements * block), name, rotary))
    return plan


def _kind(name: str, shape: tuple[int, ...], type_name: str) -> Any:
    if len(shape) == 1:
        return Kind.F32
    kind = Kind.Q8_0 if name in _FINE and type_name in _COARSE_TYPES else Kind[type_name]
    return kind if shape[0] % BLOCK_SIZES[int(kind)][0] == 0 else Kind.F16  # rows that blocks do not fill


def _values(checkpoint: Checkpoint, planned: _Planned) -> np.ndarray[Any, np.dtype[np.float32]]:
    tensor = checkpoint.read(planned.source).float()
    if planned.rotary_heads is not None:
        tensor = interleave(tensor, planned.rotary_heads)
    return tensor.contiguous().numpy()


def interleave(weight: Tensor, heads: int) -> Tensor:
    """Rows of queries or keys from transformers' order to llama.cpp's: the two halves of each head take turns.

    (heads · size, columns) → the same shape; what `load_gguf` of transformers undoes.
    """
    return weight.view(heads, 2, -1, *weight.shape[1:]).transpose(1, 2).reshape(weight.shape)


def _general_keys(config: Any, name: str, type_name: str) -> Iterator[bytes]:
    """Keys of the model itself, from its config."""
    architecture = _ARCHITECTURES[config.model_type]
    yield encode_value("general.architecture", STRING, architecture)
    yield encode_value("general.name", STRING, name)
    yield encode_value("general.file_type", UINT32, _FILE_TYPES[type_name])
    yield encode_value("general.quantization_version", UINT32, gguf.GGML_QUANT_VERSION)
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    numbers: dict[str, int] = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": head_size,
        "attention.value_length": head_size,
        "rope.dimension_count": head_size,
        "vocab_size": config.vocab_size,
    }
    for key, number in numbers.items():
        yield encode_value(f"{architecture}.{key}", UINT32, int(number))
    theta = (config.rope_parameters or {}).get("rope_theta", 10000.0)
    yield encode_value(f"{architecture}.rope.freq_base", FLOAT32, float(theta))
    yield encode_value(f"{architecture}.attention.layer_norm_rms_epsilon", FLOAT32, float(config.rms_norm_eps))


def _tokenizer(source: Path, checkpoint: Checkpoint, copied_from: Path | None, pointer: str) -> list[bytes]:
    """Keys of the tokenizer: those of the file that the model came in, else made from the checkpoint's."""
    vocabulary = int(as_config(checkpoint.config).vocab_size)
    if copied_from is None:
        return tokenizer_keys(source, load_tokenizer(source, pointer=pointer), vocabulary=vocabulary, pointer=pointer)
    header = read_gguf_header(copied_from)
    if any(tensor.name.startswith("rope_freqs") for tensor in header.tensors):
        reason = "The file that the model came in scales its rotary embedding by a tensor, which is lost on the way."
        raise UnsupportedModel.field(pointer, reason, expected="a plain model of its type")
    keys = []
    with copied_from.open("rb") as file:
        for key, value in header.values.items():
            if key.startswith("tokenizer."):
                file.seek(value.start)
                keys.append(file.read(value.end - value.start))
    return keys
