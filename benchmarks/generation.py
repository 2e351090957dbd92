"""Generation without some blocks against the original, in turn, as a job's latency benchmark takes it.

Beside the speedup stands the most that there was to gain: the bytes of weights that are read for a token, with and
without the blocks. A head counts in both, so a small model with a large vocabulary gains less than its share of blocks.

    python benchmarks/generation.py MODEL [--drop 4,12,14,16,17,18] [--output-tokens 128] [--runs 5]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from _inputs import show
from transformers import PreTrainedModel

from workers.engine.benchmarks.latency import Cell, cells_of, time_cell
from workers.engine.benchmarks.memory import weight_bytes
from workers.engine.benchmarks.placement import place_weights
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.loading import load_model
from workers.engine.pruning.depth import prune_depth


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("model", type=Path, help="checkpoint folder")
    arguments.add_argument("--drop", default="4,12,14,16,17,18", help="blocks to remove")
    arguments.add_argument("--input-tokens", type=int, default=12)
    arguments.add_argument("--output-tokens", type=int, default=128)
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--warmup", type=int, default=1)
    arguments.add_argument("--threads", type=int, default=2)
    settings = arguments.parse_args()
    torch.set_num_threads(settings.threads)
    drop = [int(part) for part in settings.drop.split(",")]
    with tempfile.TemporaryDirectory(prefix="generation-") as name:
        pruned = Path(name) / "pruned"
        prune_depth(Checkpoint.open(settings.model), pruned, drop=drop)
        models = {"original": _load(settings.model), "pruned": _load(pruned)}
    cell = Cell(1, settings.input_tokens, settings.output_tokens, settings.warmup, settings.runs)
    found = cells_of(time_cell(models, cell, seed=0), cell)
    read = {variant: bytes_per_token(model) for variant, model in models.items()}
    speedup = found["pruned"].speedup
    assert speedup is not None, "every variant but the original has one"
    rows = [
        {
            "model": variant,
            "MB read per token": read[variant] / 1e6,
            "ms per token": 1e3 * figures.time_per_output_token.median,
        }
        for variant, figures in found.items()
    ]
    noise = found["pruned"].noise
    result = {
        "blocks_removed": len(drop),
        "output_tokens": settings.output_tokens,
        "runs": settings.runs,
        "speedup": [round(value, 4) for value in (speedup.median, speedup.low, speedup.high)],
        "by_bytes": round(read["original"] / read["pruned"], 4),
        "noise": None if noise is None else round(noise, 4),
    }
    show("Generation, batch 1", rows, result)


def _load(path: Path) -> PreTrainedModel:
    model = load_model(Checkpoint.open(path), device=torch.device("cpu"), dtype=torch.float32)
    place_weights(model)
    return model


def bytes_per_token(model: PreTrainedModel) -> int:
    """Bytes of the weights that a token goes through; of an embedding that is no head it takes one row only."""
    head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]  # published without types
    table: Any = model.get_input_embeddings()
    untied = 0 if head is None or head.weight is table.weight else table.weight.nbytes
    return weight_bytes(model) - untied


if __name__ == "__main__":
    main()
