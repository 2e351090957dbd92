"""Every run of so many blocks of a model, healed: is it ever further from the original than the pruned model is?

Healing is a job's own but for the amount of text: half of the samples are of the text that is given, the other half the
original writes itself. Results stand in `OUT/MODEL/results.json`, as those of `quality.py`; a run that was broken off
goes on.

    python benchmarks/healed_runs.py MODEL --train TEXT --measure NAME=FILE … --out FOLDER
"""

from __future__ import annotations

import argparse
from pathlib import Path

from _inputs import show
from _quality_bench import Bench, Given

from workers.engine.runtime import prepare


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("model", type=Path, help="checkpoint folder, or .gguf file")
    arguments.add_argument("--train", required=True, help="UTF-8 file to fit on")
    arguments.add_argument("--measure", nargs="+", required=True, metavar="NAME=FILE", help="UTF-8 texts to measure on")
    arguments.add_argument("--blocks", type=int, default=6, help="of a run")
    arguments.add_argument("--first", type=int, nargs="+", help="first blocks of the runs; absent: all that there are")
    arguments.add_argument("--samples", type=int, default=64, help="to fit on")
    arguments.add_argument("--tokens", type=int, default=128, help="of each sample")
    arguments.add_argument("--windows", type=int, default=8, help="of each measuring text")
    arguments.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="of healing")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--out", type=Path, required=True)
    settings = arguments.parse_args()
    given = Given(
        train=settings.train,
        measure={name: Path(file) for name, _, file in (one.partition("=") for one in settings.measure)},
        windows=settings.windows,
        window_tokens=128,
        perplexity=False,
        piqa=None,
        items=0,
        samples=None,
        tokens=settings.tokens,
        healing_samples=settings.samples,
        steps=None,
        batch=None,
        dtype=settings.dtype,
    )
    machine = prepare(threads=settings.threads)
    bench = Bench(settings.model, settings.out / settings.model.stem, given, machine)
    rows, worse = [], []
    for first in settings.first or range(bench.blocks - settings.blocks + 1):
        dropped = list(range(first, first + settings.blocks))
        pruned, healed = (bench.recovered(dropped, {"kind": kind}) for kind in ("none", "healing"))
        pairs = {name: (text["kl"], healed["texts"][name]["kl"]) for name, text in pruned["texts"].items()}
        worse += [(first, name) for name, (before, after) in pairs.items() if after > before]
        rows.append({"first": first, **{name: f"{before:.3f}, {after:.3f}" for name, (before, after) in pairs.items()}})
        print(rows[-1], flush=True)
    show("Runs of blocks, pruned and healed", rows, {"runs": rows, "further than pruned": worse})


if __name__ == "__main__":
    main()
