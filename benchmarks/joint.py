"""Joint pruning against whole blocks alone at one budget, in one run: parameters, and time as it is measured here.

python benchmarks/joint.py MODEL TEXT --judged NAME=TEXT … [--budget time] [--count 6] [--evaluations 300]

The budget is what `--count` blocks weigh, or take of a generation's time by the costs that are measured first. Both
choices are found by the same search on the start of TEXT. Each is judged by KL from the original on other texts, as it
is and with what is left of it healed on TEXT; at equal measured time the models are then timed in turn.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from _inputs import folder_of, ids_of, load, parser, show
from torch import Tensor

from secateur.contract.joint import WHOLE, Part, units_of
from workers.engine.benchmarks.in_turn import AGAIN
from workers.engine.benchmarks.latency import Cell, time_cell
from workers.engine.benchmarks.statistics import ratio_interval
from workers.engine.benchmarks.unit_fit import TimedSet, share_intervals, trial_sets
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.healing.fit import through
from workers.engine.healing.halves import Gone, heal_halves
from workers.engine.healing.projections import BlockChange
from workers.engine.model.block_model import BlockModel
from workers.engine.model.divergence import mean_kl
from workers.engine.model.loading import load_model
from workers.engine.model.reduced_blocks import HALVES_OF_A_BLOCK, Half, without_halves
from workers.engine.pruning.half_sizes import half_sizes
from workers.engine.pruning.sub_block import prune_sub_block
from workers.engine.scoring.joint import search_parts

BILLION = 10**9
TOLD_EVERY_S = 60
CELL = Cell(batch_size=1, input_tokens=12, output_tokens=64, warmup=2, runs=8)


@dataclass(frozen=True)
class Bench:
    """What all comparisons share."""

    view: BlockModel
    folder: Path
    found_on: Tensor  # (samples, tokens)
    healed_on: Tensor
    judged_on: dict[str, Tensor]
    settings: argparse.Namespace
    originals: dict[str, list[Tensor]] = field(default_factory=dict)  # text → the original's last states, once walked

    def row(self, budget: str, way: str, units: Iterable[str], saved: float) -> dict[str, Any]:
        """Divergences of the original without these halves, as it is and healed."""
        gone: dict[int, list[Half]] = {}
        for unit in units:
            block, _, half = unit.partition(".")
            gone.setdefault(int(block), []).append("attention" if half == "attention" else "mlp")
        changes = {fit.block: fit.change for fit in heal_halves(self.view, gone, self.healed_on).fits if fit.helps}
        found: dict[str, Any] = {"budget": budget, "way": way, "saved": saved}
        for name, ids in self.judged_on.items():
            found[f"{name}"] = self._kl(name, ids, gone, {})
            found[f"{name}, healed"] = self._kl(name, ids, gone, changes)
        found["gone"] = " ".join(units)
        print(json.dumps(found), flush=True)  # a run that is stopped later loses nothing
        return found

    @torch.no_grad()
    def _kl(self, name: str, ids: Tensor, gone: Gone, changes: dict[int, BlockChange]) -> float:
        if name not in self.originals:
            whole = [self.view.embed(ids)]
            for block in self.view.blocks():
                whole = through(block, whole, {})
            self.originals[name] = whole
        reduced = [self.view.embed(ids)]
        for block in self.view.blocks():
            halves = gone.get(block.index, ())
            if len(halves) < len(HALVES_OF_A_BLOCK):
                with without_halves(block, halves):
                    reduced = through(block, reduced, changes.get(block.index, {}))
        return mean_kl(self.view, self.originals[name], reduced)


class TellSometimes:
    """Prints how far the search is, once a minute."""

    def __init__(self) -> None:
        self._told = time.monotonic()

    def __call__(self, done: int, total: int, unit: str) -> None:
        if time.monotonic() - self._told > TOLD_EVERY_S:
            self._told = time.monotonic()
            print(f"{done} of {total} {unit}", flush=True)


def compared(bench: Bench, budget: str, parts: list[Part], needed: int, unit: float) -> list[dict[str, Any]]:
    """Halves and blocks, and blocks alone, at one budget."""
    evaluations = bench.settings.evaluations
    found = search_parts(
        bench.view, bench.found_on, parts, needed=needed, evaluations=evaluations, progress=TellSometimes()
    )
    assert found.blocks_alone is not None, "the budget is that of whole blocks"
    print(
        f"{budget}: single losses sum to {found.summed:.4f}, and come to {found.summed_kl:.4f} as a whole; "
        f"on the text of the search and on its held-out part joint {found.best.kl:.4f}, {found.best.kl_held:.4f}, "
        f"blocks {found.blocks_alone.kl:.4f}, {found.blocks_alone.kl_held:.4f}",
        flush=True,
    )
    return [
        bench.row(budget, "joint", units_of(found.best.parts), found.best.saved * unit),
        bench.row(budget, "blocks", units_of(found.blocks_alone.parts), found.blocks_alone.saved * unit),
    ]


def timed(bench: Bench, choices: dict[str, list[str]]) -> dict[str, list[float]]:
    """Seconds of a generation, round by round, of models without these halves, in turn with the original."""
    with ExitStack() as stack:
        models = {"original": _loaded(bench.folder)}
        for name, units in choices.items():
            target = Path(stack.enter_context(TemporaryDirectory())) / "pruned"
            prune_sub_block(Checkpoint.open(bench.folder), target, drop=units)
            models[name] = _loaded(target)
        timings = time_cell(models, CELL, seed=0)
    return {name: [timing.total for timing in found] for name, found in timings.items()}


def costs(bench: Bench) -> tuple[float, float]:
    """What an attention and an MLP take of a generation, as the stage `costs` measures it."""
    blocks = bench.view.n_blocks
    sets = trial_sets(blocks - 1, blocks - 1)
    choices = {
        str(place): [*(f"{b}.attention" for b in range(a)), *(f"{blocks - 1 - b}.mlp" for b in range(m))]
        for place, (a, m) in enumerate(sets)
    }
    seconds = timed(bench, choices)
    original = [(one + other) / 2 for one, other in zip(seconds["original"], seconds[AGAIN], strict=True)]
    same = ratio_interval(seconds["original"], seconds[AGAIN])
    found = [TimedSet(a, m, original, seconds[str(place)], same) for place, (a, m) in enumerate(sets)]
    attention, mlp = share_intervals(found)
    print(f"an attention takes {attention}, an MLP {mlp}; the original against itself {same}", flush=True)
    return attention.median, mlp.median


def by_parameters(bench: Bench) -> list[dict[str, Any]]:
    sizes = half_sizes(Checkpoint.open(bench.folder), in_bytes=False)
    parts = _parts(bench.view.n_blocks, lambda block, half: sizes[block, half])
    needed = sum(sorted(part.saved for part in parts if part.goes == WHOLE)[: bench.settings.count])
    return compared(bench, "parameters", parts, needed, 1.0)


def by_time(bench: Bench) -> list[dict[str, Any]]:
    shares = dict(zip(HALVES_OF_A_BLOCK, costs(bench), strict=True))
    parts = _parts(bench.view.n_blocks, lambda block, half: max(0, round(shares[half] * BILLION)))
    needed = bench.settings.count * max(part.saved for part in parts)
    rows = compared(bench, "time", parts, needed, 1 / BILLION)
    seconds = timed(bench, {row["way"]: row["gone"].split() for row in rows})
    for row in rows:
        speedup = ratio_interval(seconds["original"], seconds[row["way"]])
        row["speedup"] = f"{speedup.median:.3f} ({speedup.low:.3f} to {speedup.high:.3f})"
    against = ratio_interval(seconds["blocks"], seconds["joint"])
    print(f"joint is {against} times as fast as blocks alone", flush=True)
    return rows


def _parts(blocks: int, saved: Any) -> list[Part]:
    found = []
    for block in range(blocks):
        halves = {half: saved(block, half) for half in HALVES_OF_A_BLOCK}
        found += [Part(block, half, size) for half, size in halves.items()] + [Part(block, WHOLE, sum(halves.values()))]
    return [part for part in found if part.saved > 0]


def _loaded(folder: Path) -> Any:
    return load_model(Checkpoint.open(folder), device=torch.device("cpu"), dtype=torch.float32)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--judged", nargs="+", required=True, help="NAME=TEXT: texts to judge on")
    arguments.add_argument("--windows", type=int, default=12, help="windows of each of them")
    arguments.add_argument("--healing-samples", type=int, default=64, help="samples of TEXT that are healed on")
    arguments.add_argument("--evaluations", type=int, default=300)
    arguments.add_argument("--budget", choices=("parameters", "time"), default="parameters")
    arguments.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="float32", help="of the search, healing and what is judged"
    )
    settings = arguments.parse_args()
    model, found_on = load(settings, dtype=getattr(torch, settings.dtype))
    healed_on = ids_of(settings, settings.text, settings.healing_samples)
    judged_on = {
        name: ids_of(settings, Path(path), settings.windows)
        for name, _, path in (given.partition("=") for given in settings.judged)
    }
    bench = Bench(BlockModel.from_model(model), folder_of(settings), found_on, healed_on, judged_on, settings)
    rows = by_time(bench) if settings.budget == "time" else by_parameters(bench)
    show(f"At equal {settings.budget}", rows, {"rows": rows})


if __name__ == "__main__":
    main()
