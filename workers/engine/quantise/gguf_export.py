"""A checkpoint as one GGUF file for llama.cpp: weights in a kind of file, settings, tokenizer.

`gguf_types.py` says what type each matrix gets; norms, biases and routers stay float32. `gguf_config.py` says which
models a file can hold, `gguf_tensors.py` what it holds. The benchmarks read the file back by this project's own import,
and a test holds that to be the same model.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

from pathlib import Path

from secateur.contract.gguf_kinds import FILE_KINDS
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.gguf_file import read_gguf_header
from workers.engine.progress import Progress, no_progress
from workers.engine.quantise.gguf_config import architecture, config_keys, supported
from workers.engine.quantise.gguf_tensors import rope_weights, weights_of
from workers.engine.quantise.gguf_tokenizer import tokenizer_keys
from workers.engine.quantise.gguf_writing import Planned, write_gguf
from workers.engine.quantise.outcome import Outcome
from workers.engine.text.tokenizer_loading import load_tokenizer


def refuse_unsupported(checkpoint: Checkpoint, *, tokenizer_from: Path | None) -> None:
    """Say now, from config, headers and tokenizer alone, whether `export_gguf` would refuse the checkpoint.

    Raises:
        UnsupportedModel: as `export_gguf`.
    """
    config = supported(checkpoint.config)
    weights_of(checkpoint, config, architecture(config))
    tokenizer_of(checkpoint, config.vocab_size, tokenizer_from)


def export_gguf(
    checkpoint: Checkpoint,
    target: Path,
    *,
    kind: str,
    tokenizer_from: Path | None = None,
    progress: Progress = no_progress,
) -> Outcome:
    """Write the checkpoint as the only file of the new folder of `target`.

    The folder appears under its name only when the file is complete and its head can be read.

    Args:
        target: the file to write; its folder must not exist.
        kind: of `FILE_KINDS`, such as "Q4_K_M".
        tokenizer_from: a GGUF file of the same vocabulary whose tokenizer is copied; None: made from the checkpoint's.
        progress: counts tensors.

    Raises:
        UnsupportedModel: transformers and llama.cpp would not read the same model from the file, or llama.cpp would cut
            text otherwise than the tokenizer does.
        StageFailed: the disk is full, or the folder exists.
    """
    config = supported(checkpoint.config)
    row = FILE_KINDS[kind]
    weights = [*weights_of(checkpoint, config, architecture(config)), *rope_weights(config)]
    plan = [Planned(weight, row.type_of(weight.place)) for weight in weights]
    keys = [
        *config_keys(config, checkpoint.path.name, row.number),
        *tokenizer_of(checkpoint, config.vocab_size, tokenizer_from),
    ]
    return write_gguf(target, keys, plan, progress=progress)


def tokenizer_of(checkpoint: Checkpoint, vocabulary: int, copied_from: Path | None) -> list[bytes]:
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
