"""Seconds per generation, of the original and its variants in turn.

The paper's protocol (Shortened LLaMA, arXiv 2402.02834): random prompts of 12 tokens, 128 tokens out, greedy; all on
one prompt in one round. `in_turn.py` has the order of the rounds and what a speedup is.

What only has to tell depths apart may take a sample of each generation (`Cell.steps`): the first token after the whole
prompt, and a few tokens in the middle of the output, which stand for all of them. A token takes longer the more of them
stand before it, in proportion, so those in the middle take what all take on average.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from transformers import PreTrainedModel

from secateur.contract.measurements import Interval, LatencyCell
from workers.engine.benchmarks.clock import Timing, clock_for
from workers.engine.benchmarks.compiling import PLAIN, Mode, NotCompiled, Runner, fresh_compiler, settle
from workers.engine.benchmarks.decoding import decode, random_prompt
from workers.engine.benchmarks.in_turn import speedups, time_in_turn
from workers.engine.benchmarks.statistics import median_interval
from workers.engine.model.generation import derive_seed
from workers.engine.progress import Progress, no_progress


@dataclass(frozen=True)
class Cell:
    """One point of the grid, and how often it is measured."""

    batch_size: int
    input_tokens: int
    output_tokens: int
    warmup: int
    runs: int
    mode: Mode = PLAIN
    steps: int | None = None  # tokens after the first that stand for all of them; None: every one is generated

    @property
    def generated(self) -> int:
        """Tokens after the first that a timing generates."""
        every = self.output_tokens - 1
        return every if self.steps is None else min(self.steps, every)


def time_cell(
    models: Mapping[str, PreTrainedModel],
    cell: Cell,
    *,
    seed: int,
    progress: Progress = no_progress,
    enough: Callable[[Mapping[str, list[Timing]]], bool] = lambda found: False,
) -> dict[str, list[Timing]]:
    """Time the models in turn.

    Args:
        models: by name, the original first; all on one device.
        progress: counts rounds, warm-up included.
        enough: whether what was timed will do, as `time_in_turn` asks it.

    Returns:
        `cell.runs` timings of whole generations for each name, or fewer, as `time_in_turn` gives them.

    Raises:
        NotCompiled: the mode asks for it, and not every step of every model that was timed ran compiled.
    """
    capacity = cell.input_tokens + cell.output_tokens
    with undisturbed(), fresh_compiler(len(models)) if cell.mode.compiled else nullcontext():
        runners = {name: Runner(model, cell.mode, capacity=capacity) for name, model in models.items()}
        if cell.mode.compiled:
            _compile(runners, cell, seed=seed)

        def time_one(name: str, turn: int) -> Timing:
            runner = runners[name]
            graphs, calls = runner.graphs, runner.calls
            timing = _time_one(runner, cell, seed=derive_seed(seed, "latency", turn))
            if cell.mode.compiled and (runner.graphs, runner.calls - calls) != (graphs, cell.generated):
                raise NotCompiled(f"the {name} model: not every step that was timed ran compiled")
            return timing

        return time_in_turn(
            list(models), time_one, warmup=cell.warmup, runs=cell.runs, progress=progress, enough=enough
        )


def _compile(runners: Mapping[str, Runner], cell: Cell, *, seed: int) -> None:
    """Compile every model, before the warm-up and the timing."""
    for name, runner in runners.items():
        try:
            settle(runner, partial(_time_one, runner, cell, seed=seed))
        except NotCompiled as error:
            raise NotCompiled(f"the {name} model: {error}") from error


def cells_of(timings: Mapping[str, list[Timing]], cell: Cell) -> dict[str, LatencyCell]:
    """The figures of each model from the timings of one cell."""
    found = speedups({name: [timing.total for timing in of] for name, of in timings.items()})
    return {name: _cell(cell, timings[name], speedup, found.noise) for name, speedup in found.by_name.items()}


def _cell(cell: Cell, timings: list[Timing], speedup: Interval | None, noise: float) -> LatencyCell:
    seconds = median_interval([timing.total for timing in timings])
    made = cell.batch_size * cell.output_tokens
    return LatencyCell(
        batch_size=cell.batch_size,
        input_tokens=cell.input_tokens,
        output_tokens=cell.output_tokens,
        runs=len(timings),
        seconds=seconds,
        tokens_per_second=Interval(median=made / seconds.median, low=made / seconds.high, high=made / seconds.low),
        time_to_first_token=median_interval([timing.first for timing in timings]),
        time_per_output_token=median_interval(
            [(timing.total - timing.first) / (cell.output_tokens - 1) for timing in timings]
        ),
        speedup=speedup,
        noise=noise,
        compiled=cell.mode.compiled,
        static_cache=cell.mode.static_cache,
    )


def _time_one(runner: Runner, cell: Cell, *, seed: int) -> Timing:
    """One generation: the whole of it, or what a sample of it says of the whole."""
    left_out = cell.output_tokens - 1 - cell.generated
    if not left_out:
        return _decoded(runner, cell.batch_size, cell.input_tokens, cell.output_tokens, seed=seed)
    first = _decoded(runner, cell.batch_size, cell.input_tokens, 1, seed=seed).total
    middle = _decoded(runner, cell.batch_size, cell.input_tokens + left_out // 2, cell.generated + 1, seed=seed)
    each = (middle.total - middle.first) / cell.generated
    return Timing(first, first + each * (cell.output_tokens - 1))


def _decoded(runner: Runner, sequences: int, input_tokens: int, output_tokens: int, *, seed: int) -> Timing:
    prompt = random_prompt(runner.model, sequences=sequences, tokens=input_tokens, seed=seed)
    clock, cache = clock_for(prompt.device), runner.new_cache()
    decode(runner.model, prompt, output_tokens, clock, step=runner.step, cache=cache)
    return clock.read()


@contextmanager
def undisturbed() -> Iterator[None]:
    """No garbage collection and no check for deterministic algorithms while the clock runs."""
    collecting = gc.isenabled()
    strict, warn = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    gc.collect()
    gc.disable()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(strict, warn_only=warn)
        if collecting:
            gc.enable()
