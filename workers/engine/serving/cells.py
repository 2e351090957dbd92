"""One cell of the latency grid under an engine: all models loaded at once, timed in turn."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from secateur.contract.measurements import EngineCell, Interval
from workers.engine.benchmarks.in_turn import speedups, time_in_turn
from workers.engine.benchmarks.latency import Cell
from workers.engine.benchmarks.statistics import median_interval
from workers.engine.model.generation import derive_seed
from workers.engine.progress import Progress, no_progress
from workers.engine.serving.engines import Start
from workers.engine.serving.runner import Asked, EngineFailed, Load, Runner, Took

WARMUP = 2  # rounds at most: nothing is compiled in them


def time_under(
    start: Start,
    models: Mapping[str, Load],
    cell: Cell,
    *,
    against: str,
    vocabulary: int,
    seed: int,
    progress: Progress = no_progress,
) -> dict[str, EngineCell]:
    """Time the models in turn.

    Args:
        start: what starts the engine with a model.
        models: by name, the original first.
        against: what the original is there, as in EngineCell.
        vocabulary: prompts are random ids below it.

    Raises:
        EngineFailed: a model was not loaded, or not timed.
    """
    with ExitStack() as open_ones:
        runners: dict[str, Runner] = {}
        for name, load in models.items():
            with _told_of(name):
                runners[name] = start(load)
            open_ones.callback(runners[name].close)

        def time_one(name: str, turn: int) -> Took:
            with _told_of(name):
                return runners[name].time(_asked(cell, vocabulary, seed=derive_seed(seed, "engines", turn)))

        warmup = min(cell.warmup, WARMUP)
        timings = time_in_turn(list(models), time_one, warmup=warmup, runs=cell.runs, progress=progress)
        builds = {name: runner.build for name, runner in runners.items()}
    found = speedups({name: [took.total for took in of] for name, of in timings.items()})
    return {
        name: _cell(cell, timings[name], speedup, found.noise, build=builds[name], against=against)
        for name, speedup in found.by_name.items()
    }


@contextmanager
def _told_of(name: str) -> Iterator[None]:
    """A failure within is told with the name of the model."""
    try:
        yield
    except EngineFailed as error:
        raise EngineFailed(f"{error} ({name})") from error


def _asked(cell: Cell, vocabulary: int, *, seed: int) -> Asked:
    drawn = random.Random(seed)
    prompts = [[drawn.randrange(vocabulary) for _ in range(cell.input_tokens)] for _ in range(cell.batch_size)]
    return Asked(prompts, cell.output_tokens)


def _cell(
    cell: Cell, timings: list[Took], speedup: Interval | None, noise: float, *, build: str, against: str
) -> EngineCell:
    return EngineCell(
        build=build,
        against=against,
        batch_size=cell.batch_size,
        input_tokens=cell.input_tokens,
        output_tokens=cell.output_tokens,
        runs=len(timings),
        prompt_tokens_per_second=_rate(cell.batch_size * cell.input_tokens, [took.prompt for took in timings]),
        tokens_per_second=_rate(cell.batch_size * cell.output_tokens, [took.total for took in timings]),
        speedup=speedup,
        noise=noise,
    )


def _rate(tokens: int, seconds: list[float]) -> Interval:
    found = median_interval(seconds)
    return Interval(median=tokens / found.median, low=tokens / found.high, high=tokens / found.low)
