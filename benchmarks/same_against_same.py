"""How often the interval of a speedup holds 1, where a model is timed against a copy of itself.

A 95 % interval should hold the truth in 19 of 20 benchmarks, and here the truth is known. Each benchmark is one cell of
a job's latency benchmark: same rounds, same order, same statistics. Noise of the machine is what is being tested, so it
may well be busy. Prints a line for each benchmark, then one line of JSON.

    python benchmarks/same_against_same.py [MODEL] [--benchmarks 50] [--least 45]
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from workers.engine.benchmarks.latency import Cell, cells_of, time_cell
from workers.engine.benchmarks.placement import place_weights
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.loading import load_model


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("model", type=Path, nargs="?", help="checkpoint folder; a tiny random Llama if absent")
    arguments.add_argument("--benchmarks", type=int, default=50)
    arguments.add_argument("--least", type=int, default=45, help="exit with an error where fewer intervals hold 1")
    arguments.add_argument("--runs", type=int, default=20)
    arguments.add_argument("--warmup", type=int, default=2)
    arguments.add_argument("--output-tokens", type=int, default=8)
    arguments.add_argument("--threads", type=int, default=1)
    settings = arguments.parse_args()
    torch.set_num_threads(settings.threads)
    model = (
        tiny()
        if settings.model is None
        else load_model(Checkpoint.open(settings.model), device=torch.device("cpu"), dtype=torch.float32)
    )
    models = {"original": model, "same": copy.deepcopy(model)}
    for timed in models.values():
        place_weights(timed)
    cell = Cell(1, 12, settings.output_tokens, settings.warmup, settings.runs)
    held, widths = 0, []
    for number in range(settings.benchmarks):
        found = cells_of(time_cell(models, cell, seed=number), cell)["same"]
        speedup = found.speedup
        assert speedup is not None, "every variant but the original has one"
        holds = speedup.low <= 1.0 <= speedup.high
        held += holds
        widths.append(speedup.high - speedup.low)
        words = "holds 1" if holds else "misses 1"
        print(f"{number + 1}: {speedup.median:.4f} ({speedup.low:.4f} to {speedup.high:.4f}) {words}", flush=True)
    widths.sort()
    result = {
        "benchmarks": settings.benchmarks,
        "held": held,
        "least": settings.least,
        "runs": settings.runs,
        "output_tokens": settings.output_tokens,
        "median_width": round(widths[len(widths) // 2], 5),
        "widest": round(widths[-1], 5),
    }
    print(json.dumps(result))
    sys.exit(held < settings.least)


def tiny() -> PreTrainedModel:
    """A Llama of four small blocks: a generation takes milliseconds, so noise weighs most."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=512,
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
        )
    )
    model.train(False)
    return model


if __name__ == "__main__":
    main()
