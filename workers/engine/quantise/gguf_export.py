"""A checkpoint as one GGUF file for llama.cpp: weights in a block type, settings, tokenizer.

Matrices are rounded by the package `gguf`, block by block, one tensor in memory at a time (of a mixture, the experts
of one block); norms, biases and routers stay float32. Types of 4 and 5 bits keep embedding and head in Q8_0, as
llama.cpp's own quantiser keeps those finer. `gguf_config.py` says which models a file can hold, `gguf_tensors.py` what
it holds. The benchmarks read the file back by this project's own import, and a test holds that to be the same model.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
from gguf.quants import dequantize, quantize

from secateur.contract.errors import StageFailed
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.gguf_file import DEFAULT_ALIGNMENT, MAGIC, encode_tensors, padding, read_gguf_header
from workers.engine.checkpoints.new_folder import new_folder
from workers.engine.progress import Progress, no_progress
from workers.engine.quantise.gguf_config import config_keys, supported
from workers.engine.quantise.gguf_tensors import Kind, plan_tensors
from workers.engine.quantise.gguf_tokenizer import tokenizer_keys
from workers.engine.quantise.outcome import Outcome
from workers.engine.text.tokenizer_loading import load_tokenizer

_FILE_TYPES = {"F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "BF16": 32}  # general.file_type
TYPES = frozenset(_FILE_TYPES)  # that a file may be written in


def refuse_unsupported(checkpoint: Checkpoint, *, tokenizer_from: Path | None) -> None:
    """Say now, from config, headers and tokenizer alone, whether `export_gguf` would refuse the checkpoint.

    Raises:
        UnsupportedModel: as `export_gguf`.
    """
    config = supported(checkpoint.config)
    plan_tensors(checkpoint, config, "Q8_0")
    _tokenizer(checkpoint, config.vocab_size, tokenizer_from)


def export_gguf(
    checkpoint: Checkpoint,
    target: Path,
    *,
    type_name: str,
    tokenizer_from: Path | None = None,
    progress: Progress = no_progress,
) -> Outcome:
    """Write the checkpoint as the only file of the new folder of `target`.

    The folder appears under its name only when the file is complete and its head can be read.

    Args:
        target: the file to write; its folder must not exist.
        type_name: a GGML type, such as "Q8_0".
        tokenizer_from: a GGUF file of the same vocabulary whose tokenizer is copied; None: made from the checkpoint's.
        progress: counts tensors.

    Raises:
        UnsupportedModel: transformers and llama.cpp would not read the same model from the file, or llama.cpp would cut
            text otherwise than the tokenizer does.
        StageFailed: the disk is full, or the folder exists.
    """
    config = supported(checkpoint.config)
    plan = plan_tensors(checkpoint, config, type_name)
    keys = [
        *config_keys(config, checkpoint.path.name, _FILE_TYPES[type_name]),
        *_tokenizer(checkpoint, config.vocab_size, tokenizer_from),
    ]
    tensors = [planned.tensor for planned in plan]
    head = MAGIC + struct.pack("<IQQ", 3, len(plan), len(keys)) + b"".join(keys)
    head += encode_tensors(tensors, DEFAULT_ALIGNMENT)
    stored = quantised = other = 0
    error = weight = 0.0
    with new_folder(target.parent) as folder:
        with (folder / target.name).open("wb") as file:
            file.write(head + bytes(padding(len(head), DEFAULT_ALIGNMENT)))
            for done, planned in enumerate(plan, start=1):
                values = planned.make().contiguous().numpy()
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


def _tokenizer(checkpoint: Checkpoint, vocabulary: int, copied_from: Path | None) -> list[bytes]:
    """Keys of the tokenizer: those of the file that the model came in, else made from the checkpoint's."""
    if copied_from is None:
        return tokenizer_keys(checkpoint.path, load_tokenizer(checkpoint.path), vocabulary=vocabulary)
    header = read_gguf_header(copied_from)
    keys = []
    with copied_from.open("rb") as file:
        for key, value in header.values.items():
            if key.startswith("tokenizer."):
                file.seek(value.start)
                keys.append(file.read(value.end - value.start))
    return keys
