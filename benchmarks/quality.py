"""What is left of a model without some of its blocks: by which criterion they go, and by which recovery it comes back.

One command runs a grid: every model, with every share of its blocks gone, by every criterion, after every recovery. All
else is as in a job whose spec does not say it, but for what is given here. Each model that comes of it is compared with
the original on texts of several kinds, and on PIQA where its items are given.

What is found stands in `OUT/MODEL/results.json` at once: a run that was broken off goes on, and a larger grid computes
what is new in it. Seconds are the processor's.

    python benchmarks/quality.py MODEL … --remove 0.1 0.2 0.35 --criteria perplexity greedy --recoveries none healing \
        --measure NAME=FILE … --out FOLDER
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from _inputs import show
from _quality_bench import Bench, Given

from secateur.contract.options.scoring import Scoring
from secateur.contract.presets import PRESETS
from workers.engine.runtime import prepare

CRITERIA = tuple(get_args(kind.model_fields["criterion"].annotation)[0] for kind in get_args(get_args(Scoring)[0]))

# By name, what a spec has under `recovery`. A preset's is its own, and `distill` and `lora` have the job's defaults.
RECOVERIES: Mapping[str, Mapping[str, Any]] = {
    "none": {"kind": "none"},
    "healing": {"kind": "healing"},
    "healing, no refit": {"kind": "healing", "refit": "none"},
    "lora": {"kind": "lora"},
    **{f"lora, lr {rate}": {"kind": "lora", "learning_rate": float(rate)} for rate in ("3e-5", "3e-4", "1e-3")},
    "distill": {"kind": "distill"},
    "distill, not healed": {"kind": "distill", "heal": False},
    "distill adapters": {"kind": "distill", "train": "lora", "learning_rate": 1e-3},
    "distill with states": {"kind": "distill", "hidden_weight": 1.0},
    "distill after the cut": {"kind": "distill", "train": "after_cut"},
    **{f"distill, lr {rate}": {"kind": "distill", "learning_rate": float(rate)} for rate in ("5e-5", "5e-4", "1e-3")},
    **{f"preset {name}": preset.spec["recovery"] for name, preset in PRESETS.items()},
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("models", type=Path, nargs="+", help="checkpoint folders, or .gguf files")
    arguments.add_argument("--remove", type=float, nargs="+", default=[0.2], help="shares of the blocks that go")
    arguments.add_argument("--criteria", nargs="+", default=["perplexity"], choices=CRITERIA)
    arguments.add_argument("--recoveries", nargs="+", default=["none", "healing"], choices=RECOVERIES)
    arguments.add_argument(
        "--train", default="self", help='text of calibration and training: "self", "answers", or a UTF-8 file'
    )
    arguments.add_argument("--measure", nargs="+", default=[], metavar="NAME=FILE", help="UTF-8 texts to measure on")
    arguments.add_argument("--windows", type=int, default=12, help="of each measuring text")
    arguments.add_argument("--window-tokens", type=int, default=128)
    arguments.add_argument("--perplexity", action="store_true", help="on the measuring texts too")
    arguments.add_argument("--piqa", type=Path, help="JSON lines with goal, sol1, sol2 and label")
    arguments.add_argument("--items", type=int, default=400, help="of PIQA")
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--samples", type=int, help="of calibration; absent, as below: what a job takes")
    arguments.add_argument("--tokens", type=int, help="of each sample of calibration and recovery")
    arguments.add_argument("--healing-samples", type=int, help="of a recovery that is healing alone")
    arguments.add_argument("--steps", type=int, help="of a training, over text that is used once")
    arguments.add_argument("--batch", type=int, help="samples of a training's step")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument(
        "--dtype", choices=["float32", "bfloat16"], default="float32", help="of recoveries; measured is in float32"
    )
    settings = arguments.parse_args()
    names = [name for name in Given.__dataclass_fields__ if name != "measure"]
    measure = {name: Path(file) for name, _, file in (pair.partition("=") for pair in settings.measure)}
    given = Given(measure=measure, **{name: getattr(settings, name) for name in names})
    machine = prepare(threads=settings.threads)
    cells = []
    for model in settings.models:
        bench = Bench(model, settings.out / model.stem, given, machine)
        bench.of_original()
        for recovery in settings.recoveries:
            for share in settings.remove:
                for criterion in settings.criteria:
                    count = max(1, round(share * bench.blocks))
                    cells.append(bench.cell(criterion, count, recovery, RECOVERIES[recovery]))
                    print(_row(cells[-1]), flush=True)
    show(
        "Quality without blocks",
        [_row(cell) for cell in cells],
        {"given": {name: str(value) for name, value in vars(settings).items()}, "cells": cells},
    )


def _row(cell: Mapping[str, Any]) -> dict[str, Any]:
    row = {name: cell[name] for name in ("model", "blocks", "criterion", "recovery")}
    row["removed"] = " ".join(str(block) for block in cell["dropped"])
    for text, figures in cell["texts"].items():
        row[text] = f"{figures['kl']:.3f} {figures['agreement']:.3f}"
        if "perplexity" in figures:
            row[text] += f" {figures['perplexity']:.1f}"
    if "piqa" in cell:
        row["piqa"] = f"{cell['piqa']['value']:.3f}"
    return {**row, "scoring s": f"{cell['scoring_seconds']:.0f}", "recovery s": f"{cell['seconds']:.0f}"}


if __name__ == "__main__":
    main()
