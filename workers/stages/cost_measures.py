"""How the costs of halves are measured: speed by models that are timed in turn, memory by models that are alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from transformers import PreTrainedModel

from secateur.contract.measurements import Interval
from workers.engine.benchmarks.depth_fit import evenly, figure_interval
from workers.engine.benchmarks.latency import Cell
from workers.engine.benchmarks.memory import measure_memory
from workers.engine.benchmarks.statistics import median_interval
from workers.engine.benchmarks.unit_fit import TimedSet, plane, predicted_set, share_intervals, trial_sets
from workers.engine.model.loading import free_memory
from workers.engine.runtime import Machine
from workers.stages.aim import Aim
from workers.stages.beside_original import InTurn
from workers.stages.context import StageContext
from workers.stages.original import Original
from workers.stages.plan_measures import exactly, figure_of
from workers.stages.smaller_models import without_units


@dataclass(frozen=True)
class Free:
    """Blocks whose attention may go, and those whose MLP may; not all of both at once."""

    attentions: list[int]
    mlps: list[int]
    blocks: int  # of the model

    @property
    def most(self) -> tuple[int, int]:
        """How many of each go at most where that is measured: one block stays."""
        a, m = len(self.attentions), len(self.mlps)
        return (a - 1, m - 1) if a == m == self.blocks else (a, m)

    def some(self, attentions: int, mlps: int) -> list[str]:
        """So many of each, spread evenly; MLPs of blocks that keep their attention first."""
        first = evenly(self.attentions, attentions)
        apart = [block for block in self.mlps if block not in first]
        second = evenly(apart, min(mlps, len(apart)))
        second += [block for block in self.mlps if block in first][: mlps - len(second)]
        return [*(f"{block}.attention" for block in first), *(f"{block}.mlp" for block in second)]


class Costs(Protocol):
    """One way to measure what halves cost. Numbers are of attentions and MLPs that are removed."""

    @property
    def notes(self) -> list[str]:
        """What to mind of them, in words."""
        ...

    @property
    def runs(self) -> int:
        """Timed generations of each model."""
        ...

    @property
    def timed_tokens(self) -> int | None:
        """Tokens after the first that were timed of each generation; None where nothing was timed."""
        ...

    @property
    def shares(self) -> tuple[Interval, Interval]:
        """What one attention and one MLP take, as shares of the original's."""
        ...

    def fit(self) -> list[tuple[int, int, Interval]]:
        """Measure the original and a few smaller models."""
        ...

    def of_original(self) -> Interval:
        """As it was measured with them."""
        ...

    def predict(self, attentions: int, mlps: int) -> Interval:
        """The figure without so many."""
        ...


@dataclass
class SpeedOfHalves:
    """Models timed in turn with the original."""

    context: StageContext
    original: Original
    machine: Machine
    aim: Aim
    free: Free
    fitted: list[TimedSet] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._turns = InTurn(
            self.context, self.machine, self.original.info.parameters, self.aim.cell, partial(self._model, (0, 0))
        )
        self._figure = figure_of(self.aim.target.figure, self.aim.cell)

    @property
    def notes(self) -> list[str]:
        return self._turns.notes

    @property
    def runs(self) -> int:
        return self._turns.runs

    @property
    def timed_tokens(self) -> int:
        return self._turns.cell.generated

    @property
    def shares(self) -> tuple[Interval, Interval]:
        return share_intervals(self.fitted)

    def fit(self) -> list[tuple[int, int, Interval]]:
        sets = trial_sets(*self.free.most)
        names = [f"{attentions} attentions and {mlps} MLPs" for attentions, mlps in sets]
        timed = self._turns.timed(
            {name: partial(self._model, counts) for name, counts in zip(names, sets, strict=True)},
            what=lambda some: f"time without {', '.join(some)}",
            seconds=self.aim.seconds,
        )
        self.fitted = [
            TimedSet(*counts, times.original, times.other, times.same)
            for counts, times in zip(sets, timed, strict=True)
        ]
        return [
            (one.attentions, one.mlps, figure_interval(one.original, one.ratios, self._figure, one.same))
            for one in self.fitted
        ]

    def of_original(self) -> Interval:
        return median_interval([self._figure(seconds, 1.0) for seconds in self.fitted[0].original])

    def predict(self, attentions: int, mlps: int) -> Interval:
        return predicted_set(self.fitted, attentions, mlps, self._figure)

    def _model(self, counts: tuple[int, int]) -> PreTrainedModel:
        return without_units(self.context, self.original, self.machine, drop=self.free.some(*counts))


@dataclass
class MemoryOfHalves:
    """Models whose peak is taken, each alone in the process."""

    context: StageContext
    original: Original
    machine: Machine
    cell: Cell
    free: Free
    notes: list[str] = field(default_factory=list)
    peaks: dict[tuple[int, int], float] = field(default_factory=dict)
    runs: int = 1
    timed_tokens: int | None = None

    @property
    def shares(self) -> tuple[Interval, Interval]:
        one, other = self._plane()
        return exactly(one), exactly(other)

    def fit(self) -> list[tuple[int, int, Interval]]:
        sets = trial_sets(*self.free.most)
        for counts in [(0, 0), *sets]:
            self.peaks[counts] = self._peak(counts)
        return [(*counts, exactly(self.peaks[counts])) for counts in sets]

    def of_original(self) -> Interval:
        return exactly(self.peaks[0, 0])

    def predict(self, attentions: int, mlps: int) -> Interval:
        peak = self._at(attentions, mlps)
        off = max(abs(self._at(*counts) - found) for counts, found in self.peaks.items())
        return Interval(median=peak, low=peak - off, high=peak + off)

    def _at(self, attentions: int, mlps: int) -> float:
        one, other = self._plane()
        return self.peaks[0, 0] * (1 - one * attentions - other * mlps)

    def _plane(self) -> tuple[float, float]:
        whole = self.peaks[0, 0]
        places: Sequence[tuple[int, int]] = [counts for counts in self.peaks if counts != (0, 0)]
        return plane(places, [1 - self.peaks[counts] / whole for counts in places])

    def _peak(self, counts: tuple[int, int]) -> float:
        model = without_units(self.context, self.original, self.machine, drop=self.free.some(*counts))
        with self.context.part(f"memory without {counts[0]} attentions and {counts[1]} MLPs"):
            found = measure_memory(
                model,
                batch_size=self.cell.batch_size,
                input_tokens=self.cell.input_tokens,
                output_tokens=self.cell.output_tokens,
                seed=self.machine.seed,
            )
        del model
        free_memory()
        return float(found.peak)
