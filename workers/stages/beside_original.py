"""Models timed in turn with the original: of a plan and of costs, which need what a smaller model takes beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from transformers import PreTrainedModel

from secateur.contract.measurements import Interval
from workers.engine.benchmarks.compiling import NotCompiled
from workers.engine.benchmarks.in_turn import AGAIN
from workers.engine.benchmarks.latency import Cell, time_cell
from workers.engine.benchmarks.placement import place_weights
from workers.engine.benchmarks.statistics import ratio_interval
from workers.engine.model.loading import free_memory
from workers.engine.runtime import Machine, available_memory
from workers.stages.context import StageContext

ORIGINAL = "original"
WARMUP, RUNS = 2, 8  # at most; the benchmark's own where those are fewer
MEMORY_SHARE = 0.7  # of the free memory: models that need more together are timed one by one

Make = Callable[[], PreTrainedModel]


@dataclass(frozen=True)
class Beside:
    """A model and the original in the same rounds."""

    original: list[float]  # seconds, one a round; a mean of the original's two times
    other: list[float]
    same: Interval  # the original's times over its own again: what noise alone looks like


@dataclass
class InTurn:
    """Times models, in groups that fit into memory beside the original."""

    context: StageContext
    machine: Machine
    parameters: int  # of the original
    cell: Cell
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cell = replace(self.cell, warmup=min(WARMUP, self.cell.warmup), runs=min(RUNS, self.cell.runs))

    def timed(self, original: Make, others: Mapping[str, Make], *, what: Callable[[list[str]], str]) -> list[Beside]:
        """Each of the others beside the original, in their order; `what` says in words which are timed together."""
        found: list[Beside] = []
        for group in self._groups(list(others)):
            models = {name: _placed(make) for name, make in {ORIGINAL: original, **_some(others, group)}.items()}
            with self.context.part(what(group)):
                found += self._time(models, group)
            del models
            free_memory()
        return found

    def _groups(self, names: list[str]) -> list[list[str]]:
        needed = (1 + len(names)) * self.parameters * self.machine.dtype.itemsize
        together = needed <= MEMORY_SHARE * available_memory(self.machine.device)
        return [names] if together else [[name] for name in names]

    def _time(self, models: dict[str, PreTrainedModel], group: list[str]) -> list[Beside]:
        try:
            timings = time_cell(models, self.cell, seed=self.machine.seed, progress=self.context.progress)
        except NotCompiled as error:
            self.notes.append(f"Smaller models were timed without torch.compile. What stood against it, {error}.")
            self.cell = replace(self.cell, mode=replace(self.cell.mode, compiled=False))
            timings = time_cell(models, self.cell, seed=self.machine.seed, progress=self.context.progress)
        first = [timing.total for timing in timings[ORIGINAL]]
        again = [timing.total for timing in timings[AGAIN]]
        bracket = [(one + other) / 2 for one, other in zip(first, again, strict=True)]
        same = ratio_interval(first, again)
        return [Beside(bracket, [timing.total for timing in timings[name]], same) for name in group]


def _some(others: Mapping[str, Make], group: list[str]) -> dict[str, Make]:
    return {name: others[name] for name in group}


def _placed(make: Make) -> PreTrainedModel:
    model = make()
    place_weights(model)  # as the benchmark does before it times, and not before it takes memory
    return model
