"""Score a checkpoint larger than memory allows, streamed from disk: peak resident memory, and bytes read.

Writes a Llama-shaped checkpoint of random weights in shards (kept in the cache for the next run), then scores it in a
process of its own per criterion, so that each peak is that criterion's.

    python benchmarks/streaming.py [--gigabytes 8] [--criteria magnitude block_influence perplexity]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from _inputs import show
from pydantic import TypeAdapter
from safetensors.torch import save_file
from transformers import LlamaConfig

from secateur.contract.options.scoring import Scoring
from workers.engine.architectures.discovery import skeleton
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.block_model import BlockModel
from workers.engine.scoring.task import ScoringTask, score_blocks

WIDTH, INNER, HEADS, VOCABULARY = 2048, 5632, 16, 32_000


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--gigabytes", type=float, default=8.0)
    arguments.add_argument("--criteria", nargs="+", default=["magnitude", "block_influence", "perplexity"])
    arguments.add_argument("--cache", type=Path, default=Path.home() / ".cache/secateur-benchmarks")
    arguments.add_argument("--samples", type=int, default=10)
    arguments.add_argument("--tokens", type=int, default=128)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--one", help=argparse.SUPPRESS)  # the criterion that this process scores by
    settings = arguments.parse_args()
    folder = settings.cache / f"llama-{settings.gigabytes:g}GB"
    if settings.one:
        print(json.dumps(_score(folder, settings)))
        return
    if not (folder / "model.safetensors.index.json").exists():
        _write(folder, settings.gigabytes)
    rows = []
    for criterion in settings.criteria:
        command = [sys.executable, __file__, *sys.argv[1:], "--one", criterion]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout.strip().splitlines()[-1]))
        print(rows[-1], flush=True)
    show("Streamed from disk", rows, {"runs": rows})


def _score(folder: Path, settings: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(settings.threads)
    view = BlockModel.from_checkpoint(Checkpoint.open(folder), device="cpu", dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, VOCABULARY, (settings.samples, settings.tokens), generator=generator)
    start = time.perf_counter()
    score_blocks(ScoringTask(view, ids, TypeAdapter(Scoring).validate_python({"criterion": settings.one})))
    on_disk = json.loads((folder / "model.safetensors.index.json").read_text())["metadata"]["total_size"]
    return {
        "criterion": settings.one,
        "blocks": view.n_blocks,
        "GB on disk": on_disk / 1e9,
        "reads of each byte": view.bytes_read / on_disk,
        "peak resident GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "seconds": time.perf_counter() - start,
    }


def _write(folder: Path, gigabytes: float) -> None:
    """A checkpoint of at least so many gigabytes, one shard per block, in fp32."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        num_hidden_layers=1,
        tie_word_embeddings=False,
    )
    shapes = {name: tensor.shape for name, tensor in skeleton(config).state_dict().items()}
    block = {name: shape for name, shape in shapes.items() if ".layers.0." in name}
    outside = {name: shape for name, shape in shapes.items() if name not in block}
    block_bytes, outside_bytes = (4 * sum(s.numel() for s in part.values()) for part in (block, outside))
    config.num_hidden_layers = int(-(-(gigabytes * 1e9 - outside_bytes) // block_bytes))
    config.architectures = ["LlamaForCausalLM"]
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    weight_map: dict[str, str] = {}
    for number in range(-1, config.num_hidden_layers):
        part = outside if number < 0 else block
        tensors = {
            name.replace(".layers.0.", f".layers.{number}."): torch.randn(shape, generator=generator) * 0.02
            for name, shape in part.items()
        }
        file = f"model-{number + 2:05d}-of-{config.num_hidden_layers + 1:05d}.safetensors"
        save_file(tensors, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, file)
        print(f"wrote {file}", flush=True)
    config.save_pretrained(folder)
    total = outside_bytes + config.num_hidden_layers * block_bytes
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


if __name__ == "__main__":
    main()
