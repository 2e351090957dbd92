"""Models timed in turn with the original: of a plan and of costs, which need what a smaller model takes beside it.

Generations are timed by a sample of each (`Cell.steps`), so a round takes seconds where whole ones take a minute, and
many short rounds tell more of a ratio than a few long ones: what slows the machine meanwhile is shared by all models of
a round. Rounds end when what was asked for is known, or when the time is up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from transformers import PreTrainedModel

from secateur.contract.measurements import Interval
from workers.engine.benchmarks.clock import Timing
from workers.engine.benchmarks.compiling import NotCompiled
from workers.engine.benchmarks.in_turn import AGAIN
from workers.engine.benchmarks.latency import Cell, time_cell
from workers.engine.benchmarks.placement import place_weights
from workers.engine.benchmarks.statistics import ratio_interval
from workers.engine.model.loading import free_memory
from workers.engine.runtime import Machine, available_memory
from workers.stages.context import StageContext

ORIGINAL = "original"
STEPS = 16  # tokens of a generation that are timed, in its middle
WARMUP = 1  # rounds; the benchmark's own where that has none
LEAST, MOST = 3, 40  # rounds, whatever the time; never more tokens than the benchmark has
TELLING = 5  # rounds before which nothing is taken to be known
MEMORY_SHARE = 0.7  # of the free memory: models that need more together are timed one by one

Make = Callable[[], PreTrainedModel]


@dataclass(frozen=True)
class Beside:
    """A model and the original in the same rounds."""

    original: list[float]  # seconds, one a round; a mean of the original's two times
    other: list[float]
    same: Interval  # the original's times over its own again: what noise alone looks like

    def first(self, rounds: int) -> Beside:
        """Without the rounds after so many."""
        return replace(self, original=self.original[:rounds], other=self.other[:rounds])


Enough = Callable[[list[Beside]], bool]


@dataclass
class InTurn:
    """Times models, in groups that fit into memory beside the original, which stays there from one time to the next."""

    context: StageContext
    machine: Machine
    parameters: int  # of the original
    cell: Cell
    original: Make
    notes: list[str] = field(default_factory=list)
    runs: int = 0  # of the last timing

    def __post_init__(self) -> None:
        self._original: PreTrainedModel | None = None
        sampled = replace(self.cell, steps=STEPS, warmup=min(WARMUP, self.cell.warmup))
        affordable = self.cell.runs * (self.cell.output_tokens - 1) // sampled.generated
        self.cell = replace(sampled, runs=min(MOST, affordable))

    def timed(
        self,
        others: Mapping[str, Make],
        *,
        what: Callable[[list[str]], str],
        seconds: float,
        enough: Enough = lambda found: False,
    ) -> list[Beside]:
        """Each of the others beside the original, in their order.

        Args:
            what: says in words which are timed together.
            seconds: of timing, after which no further round begins; there are LEAST in any case.
            enough: whether these rounds will do. Not asked where models have to be timed one by one.
        """
        found: list[Beside] = []
        groups = self._groups(list(others))
        for group in groups:
            if self._original is None:
                self._original = _placed(self.original)
            models = {ORIGINAL: self._original, **{name: _placed(others[name]) for name in group}}
            with self.context.part(what(group)):
                found += self._time(models, group, seconds / len(groups), enough if len(groups) == 1 else _never)
            del models
            free_memory()
        self.runs = min(len(beside.other) for beside in found)
        return [beside.first(self.runs) for beside in found]

    def _groups(self, names: list[str]) -> list[list[str]]:
        loading = len(names) + (self._original is None)
        needed = loading * self.parameters * self.machine.dtype.itemsize
        together = needed <= MEMORY_SHARE * available_memory(self.machine.device)
        return [names] if together else [[name] for name in names]

    def _time(
        self, models: dict[str, PreTrainedModel], group: list[str], seconds: float, enough: Enough
    ) -> list[Beside]:
        try:
            timings = self._rounds(models, group, seconds, enough)
        except NotCompiled as error:
            self.notes.append(f"Smaller models were timed without torch.compile. What stood against it, {error}.")
            self.cell = replace(self.cell, mode=replace(self.cell.mode, compiled=False))
            timings = self._rounds(models, group, seconds, enough)
        return _beside(group, timings)

    def _rounds(
        self, models: dict[str, PreTrainedModel], group: list[str], seconds: float, enough: Enough
    ) -> Mapping[str, list[Timing]]:
        ended: list[float] = []  # when each round did

        def will_do(timings: Mapping[str, list[Timing]]) -> bool:
            ended.append(time.monotonic())
            if len(ended) < LEAST:
                return False
            each = (ended[-1] - ended[0]) / (len(ended) - 1)
            known = len(ended) >= TELLING and enough(_beside(group, timings))
            return known or each * (len(ended) + 1) > seconds

        return time_cell(models, self.cell, seed=self.machine.seed, progress=self.context.progress, enough=will_do)


def _never(found: list[Beside]) -> bool:
    return False


def _beside(group: list[str], timings: Mapping[str, list[Timing]]) -> list[Beside]:
    first = [timing.total for timing in timings[ORIGINAL]]
    again = [timing.total for timing in timings[AGAIN]]
    bracket = [(one + other) / 2 for one, other in zip(first, again, strict=True)]
    same = ratio_interval(first, again)
    return [Beside(bracket, [timing.total for timing in timings[name]], same) for name in group]


def _placed(make: Make) -> PreTrainedModel:
    model = make()
    place_weights(model)  # as the benchmark does before it times, and not before it takes memory
    return model
