"""What the scoring benchmarks work on: a model from a folder or a GGUF file, and tokens of a text."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.gguf_import import import_gguf
from workers.engine.model.loading import load_model
from workers.engine.text.tokenizer_loading import load_tokenizer


def parser(description: str | None) -> argparse.ArgumentParser:
    """Arguments that the benchmarks share."""
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument("model", type=Path, help="checkpoint folder, or a .gguf file")
    arguments.add_argument("text", type=Path, help="UTF-8 text to take the calibration tokens from")
    arguments.add_argument(
        "--cache", type=Path, default=Path.home() / ".cache/secateur-benchmarks", help="where a GGUF is converted to"
    )
    arguments.add_argument("--samples", type=int, default=10)
    arguments.add_argument("--tokens", type=int, default=128, help="tokens per sample")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--count", type=int, default=6, help="blocks to remove")
    return arguments


def folder_of(arguments: argparse.Namespace) -> Path:
    """The checkpoint's folder; a GGUF file is converted into the cache once."""
    folder: Path = arguments.model
    if folder.suffix == ".gguf":
        folder = arguments.cache / arguments.model.stem
        if not folder.exists():
            import_gguf(arguments.model, folder)
    return folder


def load(arguments: argparse.Namespace, *, dtype: torch.dtype = torch.float32) -> tuple[PreTrainedModel, Tensor]:
    """The model, and (samples, tokens) ids from the start of the text."""
    torch.set_num_threads(arguments.threads)
    model = load_model(Checkpoint.open(folder_of(arguments)), device=torch.device("cpu"), dtype=dtype)
    return model, ids_of(arguments, arguments.text, arguments.samples)


def ids_of(arguments: argparse.Namespace, text: Path, samples: int) -> Tensor:
    """(samples, tokens) ids from the start of a text."""
    tokenizer = load_tokenizer(folder_of(arguments))
    wanted = samples * arguments.tokens
    read = text.read_text(encoding="utf-8")[: 16 * wanted]
    ids: Tensor = tokenizer(read, return_tensors="pt")["input_ids"][0, :wanted]
    return ids.view(samples, arguments.tokens)


def show(title: str, rows: Sequence[Mapping[str, Any]], result: Mapping[str, Any]) -> None:
    """A table for people, then one line of JSON for programs."""
    print(f"\n{title}\n")
    names = list(rows[0])
    cells = [
        names,
        *([f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values()] for row in rows),
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    print("\n" + json.dumps(result))
