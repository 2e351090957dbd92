"""How a plan measures depths: speed by models that are timed in turn, memory by models that are alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

from transformers import PreTrainedModel

from secateur.contract.measurements import Interval
from workers.engine.benchmarks.compiling import NotCompiled
from workers.engine.benchmarks.depth_fit import Figure, TimedPair, measured, predicted, shares, trial_depths
from workers.engine.benchmarks.in_turn import AGAIN
from workers.engine.benchmarks.latency import Cell, time_cell
from workers.engine.benchmarks.memory import measure_memory
from workers.engine.benchmarks.placement import place_weights
from workers.engine.benchmarks.size_fit import Line, fitted
from workers.engine.benchmarks.statistics import median_interval, ratio_interval
from workers.engine.model.loading import free_memory
from workers.engine.runtime import Machine, available_memory
from workers.stages.context import StageContext
from workers.stages.original import Original
from workers.stages.shallower_models import shallower

ORIGINAL = "original"
WARMUP, RUNS = 2, 8  # at most; the benchmark's own where those are fewer
MEMORY_SHARE = 0.7  # of the free memory: depths that need more together are timed one by one


class Depths(Protocol):
    """One way to measure depths. Depths are numbers of blocks removed."""

    notes: list[str]

    @property
    def runs(self) -> int:
        """Timed generations of each model."""
        ...

    @property
    def per_block(self) -> float:
        """What one block takes, as a share of the original's."""
        ...

    def fit(self, most: int) -> list[tuple[int, Interval]]:
        """Measure the original and a few depths, of which the last is `most`, and keep the line through them."""
        ...

    def of_original(self) -> Interval:
        """As it was measured with them."""
        ...

    def predict(self, removed: int) -> Interval:
        """By the line, and once a depth was measured by itself, by what that has shown."""
        ...

    def confirm(self, removed: int) -> Interval:
        """Measure this depth."""
        ...


@dataclass
class SpeedOfDepths:
    """Depths timed in turn with the original."""

    context: StageContext
    original: Original
    machine: Machine
    cell: Cell
    free: list[int]
    name: str
    notes: list[str] = field(default_factory=list)
    fitted: list[TimedPair] = field(default_factory=list)  # that the line goes through
    latest: list[TimedPair] = field(default_factory=list)  # by which is predicted

    def __post_init__(self) -> None:
        self.cell = replace(self.cell, warmup=min(WARMUP, self.cell.warmup), runs=min(RUNS, self.cell.runs))

    @property
    def runs(self) -> int:
        return self.cell.runs

    @property
    def per_block(self) -> float:
        return median_interval(shares(self.fitted)).median

    @property
    def figure(self) -> Figure:
        made = self.cell.batch_size * self.cell.output_tokens
        figures: dict[str, Figure] = {
            "speedup": lambda seconds, ratio: 1 / ratio,
            "latency_ms": lambda seconds, ratio: 1000 * seconds * ratio,
            "tokens_per_second": lambda seconds, ratio: made / (seconds * ratio),
        }
        return figures[self.name]

    def of_original(self) -> Interval:
        return median_interval([self.figure(seconds, 1.0) for seconds in self.fitted[0].original])

    def fit(self, most: int) -> list[tuple[int, Interval]]:
        self.fitted = self.latest = list(self._timed(trial_depths(most)))
        return [(pair.removed, measured(pair, self.figure)) for pair in self.fitted]

    def predict(self, removed: int) -> Interval:
        return predicted(self.latest, removed, self.figure)

    def confirm(self, removed: int) -> Interval:
        self.latest = list(self._timed([removed]))
        return measured(self.latest[0], self.figure)

    def _timed(self, depths: list[int]) -> Iterator[TimedPair]:
        for group in self._groups(depths):
            models = {ORIGINAL: self._model(0)} | {str(removed): self._model(removed) for removed in group}
            yield from self._time(models, group)
            del models
            free_memory()

    def _model(self, removed: int) -> PreTrainedModel:
        model = shallower(self.context, self.original, self.machine, removed=removed, free=self.free)
        place_weights(model)  # as the benchmark does before it times, and not before it takes memory
        return model

    def _groups(self, depths: list[int]) -> list[list[int]]:
        """Depths to hold in memory together, beside the original."""
        needed = (1 + len(depths)) * self.original.info.parameters * self.machine.dtype.itemsize
        together = needed <= MEMORY_SHARE * available_memory(self.machine.device)
        return [depths] if together else [[removed] for removed in depths]

    def _time(self, models: dict[str, PreTrainedModel], group: list[int]) -> Iterator[TimedPair]:
        with self.context.part(f"time without {', '.join(map(str, group))} blocks"):
            try:
                timings = time_cell(models, self.cell, seed=self.machine.seed, progress=self.context.progress)
            except NotCompiled as error:
                self.notes.append(f"Depths were timed without torch.compile. What stood against it, {error}.")
                self.cell = replace(self.cell, mode=replace(self.cell.mode, compiled=False))
                timings = time_cell(models, self.cell, seed=self.machine.seed, progress=self.context.progress)
        first = [timing.total for timing in timings[ORIGINAL]]
        again = [timing.total for timing in timings[AGAIN]]
        bracket = [(one + other) / 2 for one, other in zip(first, again, strict=True)]
        same = ratio_interval(first, again)
        for removed in group:
            yield TimedPair(removed, bracket, [timing.total for timing in timings[str(removed)]], same)


@dataclass
class MemoryOfDepths:
    """Depths whose peak is taken, each alone in the process."""

    context: StageContext
    original: Original
    machine: Machine
    cell: Cell
    free: list[int]
    notes: list[str] = field(default_factory=list)
    peaks: dict[int, float] = field(default_factory=dict)
    runs: int = 1

    @property
    def line(self) -> Line:
        return fitted(self.peaks)

    @property
    def per_block(self) -> float:
        return self.line.per_block / self.line.original

    def fit(self, most: int) -> list[tuple[int, Interval]]:
        self._peak(0)
        return [(removed, self._peak(removed)) for removed in trial_depths(most)]

    def of_original(self) -> Interval:
        return self._peak(0)

    def predict(self, removed: int) -> Interval:
        if removed in self.peaks:
            return _exactly(self.peaks[removed])
        peak, off = self.line.at(removed), self.line.residual
        return Interval(median=peak, low=peak - off, high=peak + off)

    def confirm(self, removed: int) -> Interval:
        return self._peak(removed)

    def _peak(self, removed: int) -> Interval:
        if removed not in self.peaks:
            model = shallower(self.context, self.original, self.machine, removed=removed, free=self.free)
            with self.context.part(f"memory without {removed} blocks"):
                found = measure_memory(
                    model,
                    batch_size=self.cell.batch_size,
                    input_tokens=self.cell.input_tokens,
                    output_tokens=self.cell.output_tokens,
                    seed=self.machine.seed,
                )
            self.peaks[removed] = float(found.peak)
            del model
            free_memory()
        return _exactly(self.peaks[removed])


def _exactly(value: float) -> Interval:
    return Interval(median=value, low=value, high=value)
