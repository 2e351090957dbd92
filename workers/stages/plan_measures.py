"""How a plan measures depths: speed by models that are timed in turn, memory by models that are alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from transformers import PreTrainedModel

from secateur.contract.measurements import Interval
from secateur.contract.target_figures import reaches
from workers.engine.benchmarks.depth_fit import (
    Figure,
    TimedPair,
    estimated,
    least_depth,
    measured,
    predicted,
    shares,
    trial_depths,
)
from workers.engine.benchmarks.latency import Cell
from workers.engine.benchmarks.memory import measure_memory
from workers.engine.benchmarks.size_fit import Line, fitted
from workers.engine.benchmarks.statistics import median_interval
from workers.engine.model.loading import free_memory
from workers.engine.runtime import Machine
from workers.stages.aim import Aim
from workers.stages.beside_original import Beside, InTurn
from workers.stages.context import StageContext
from workers.stages.original import Original
from workers.stages.smaller_models import shallower


class Depths(Protocol):
    """One way to measure depths. Depths are numbers of blocks removed."""

    @property
    def notes(self) -> list[str]:
        """What to mind of them, in words."""
        ...

    @property
    def runs(self) -> int:
        """Timed generations of each model, or of the one of which there are fewest."""
        ...

    @property
    def timed_tokens(self) -> int | None:
        """Tokens after the first that were timed of each generation; None where nothing was timed."""
        ...

    @property
    def per_block(self) -> float:
        """What one block takes, as a share of the original's."""
        ...

    def fit(self) -> list[tuple[int, Interval]]:
        """Measure the original and a few depths, of which the last is all that may go, and keep the line."""
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


FIT, CONFIRM = 1 / 2, 1 / 4  # of the time: for the line, and for a depth by itself, of which there may be two


@dataclass
class SpeedOfDepths:
    """Depths timed in turn with the original, until they tell how many blocks have to go."""

    context: StageContext
    original: Original
    machine: Machine
    aim: Aim
    free: list[int]
    most: int
    fitted: list[TimedPair] = field(default_factory=list)  # that the line goes through
    latest: list[TimedPair] = field(default_factory=list)  # by which is predicted

    def __post_init__(self) -> None:
        self._turns = InTurn(
            self.context, self.machine, self.original.info.parameters, self.aim.cell, partial(self._model, 0)
        )

    @property
    def notes(self) -> list[str]:
        return self._turns.notes

    @property
    def runs(self) -> int:
        return min(len(pair.shallower) for pair in (*self.fitted, *self.latest))

    @property
    def timed_tokens(self) -> int:
        return self._turns.cell.generated

    @property
    def per_block(self) -> float:
        return median_interval(shares(self.fitted)).median

    @property
    def figure(self) -> Figure:
        return figure_of(self.aim.target.figure, self.aim.cell)

    def of_original(self) -> Interval:
        return median_interval([self.figure(seconds, 1.0) for seconds in self.fitted[0].original])

    def fit(self) -> list[tuple[int, Interval]]:
        self.fitted = self.latest = self._timed(trial_depths(self.most), FIT)
        return [(pair.removed, measured(pair, self.figure)) for pair in self.fitted]

    def predict(self, removed: int) -> Interval:
        return predicted(self.latest, removed, self.figure)

    def confirm(self, removed: int) -> Interval:
        self.latest = self._timed([removed], CONFIRM)
        return measured(self.latest[0], self.figure)

    def _timed(self, depths: list[int], part: float) -> list[TimedPair]:
        def pairs(timed: list[Beside]) -> list[TimedPair]:
            return [
                TimedPair(removed, times.original, times.other, times.same)
                for removed, times in zip(depths, timed, strict=True)
            ]

        timed = self._turns.timed(
            {str(removed): partial(self._model, removed) for removed in depths},
            what=lambda names: f"time without {', '.join(names)} blocks",
            seconds=part * self.aim.seconds,
            enough=lambda found: self._decided(pairs(found)),
        )
        return pairs(timed)

    def _decided(self, pairs: list[TimedPair]) -> bool:
        target = self.aim.target
        limit = target.value  # of speed, which is never a share
        found = least_depth(
            lambda count: reaches(target, limit, exactly(estimated(pairs, count, self.figure))), self.most
        )
        return self.aim.decided(limit, lambda count: predicted(pairs, count, self.figure), found, self.most)

    def _model(self, removed: int) -> PreTrainedModel:
        return shallower(self.context, self.original, self.machine, removed=removed, free=self.free)


def figure_of(name: str, cell: Cell) -> Figure:
    """How a figure of speed follows from the original's seconds and a model's share of them."""
    made = cell.batch_size * cell.output_tokens
    figures: dict[str, Figure] = {
        "speedup": lambda seconds, ratio: 1 / ratio,
        "latency_ms": lambda seconds, ratio: 1000 * seconds * ratio,
        "tokens_per_second": lambda seconds, ratio: made / (seconds * ratio),
    }
    return figures[name]


@dataclass
class MemoryOfDepths:
    """Depths whose peak is taken, each alone in the process."""

    context: StageContext
    original: Original
    machine: Machine
    cell: Cell
    free: list[int]
    most: int
    notes: list[str] = field(default_factory=list)
    peaks: dict[int, float] = field(default_factory=dict)
    runs: int = 1
    timed_tokens: int | None = None

    @property
    def line(self) -> Line:
        return fitted(self.peaks)

    @property
    def per_block(self) -> float:
        return self.line.per_block / self.line.original

    def fit(self) -> list[tuple[int, Interval]]:
        self._peak(0)
        return [(removed, self._peak(removed)) for removed in trial_depths(self.most)]

    def of_original(self) -> Interval:
        return self._peak(0)

    def predict(self, removed: int) -> Interval:
        if removed in self.peaks:
            return exactly(self.peaks[removed])
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
        return exactly(self.peaks[removed])


def exactly(value: float) -> Interval:
    """What was read off once."""
    return Interval(median=value, low=value, high=value)
