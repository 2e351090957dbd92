"""What a measured target aims at: in which cell, in what words, and when the original is there already."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from secateur.contract.errors import InvalidInput
from secateur.contract.measurements import Interval
from secateur.contract.models.positions import positions_of
from secateur.contract.options.target import Target
from secateur.contract.target_figures import TARGET_FIGURES, may_reach, promised, reaches, shown, surely_reaches
from secateur.contract.targets import POINTER
from workers.engine.benchmarks.latency import Cell
from workers.stages.benchmark_speed import grid, timed_as
from workers.stages.context import StageContext
from workers.stages.original import Original

PLAN_SECONDS = 90.0  # unless the target names another time; told in its option


@dataclass(frozen=True)
class Aim:
    """A target of speed or memory, and the cell of the benchmark in which it is measured."""

    target: Target
    cell: Cell
    seconds: float  # that smaller models may be timed
    promised: float | None  # the figure that the worse end has to reach beside it, as a gate asks

    @classmethod
    def of(cls, context: StageContext, original: Original) -> Aim:
        spec, target = context.stage.spec, context.stage.spec.target
        assert target is not None, "only a job with a target has an aim"
        cells = grid(timed_as(context, positions_of(original.checkpoint.config)))
        cell = next(
            cell
            for cell in cells
            if target.batch_size in (None, cell.batch_size) and target.output_tokens in (None, cell.output_tokens)
        )
        return cls(target, cell, target.plan_seconds or PLAN_SECONDS, promised(target, spec.gates))

    def chooses(self, limit: float, reading: Interval) -> bool:
        """Whether what is expected to have this figure is taken: by the figure itself, and by the worse end for a gate.

        A target is aimed at, so it is as likely to be missed by a little as to be passed by a little; a choice by the
        worse end would take away more the less was known.
        """
        return reaches(self.target, limit, reading) and (self.promised is None or reading.low >= self.promised)

    @property
    def place(self) -> str:
        """The target's pointer."""
        return f"{POINTER}/{self.target.figure}"

    @property
    def where(self) -> str:
        """ "at batch 1, 12 + 128 tokens"."""
        return f"at batch {self.cell.batch_size}, {self.cell.input_tokens} + {self.cell.output_tokens} tokens"

    def decided(self, limit: float, predict: Callable[[int], Interval], count: int | None, most: int) -> bool:
        """Whether the number of blocks that reaches the target is the same by both ends of every interval.

        Args:
            count: the least that reaches it; None where not even `most` do.
        """
        if count is None:
            return not may_reach(self.target, limit, predict(most))
        surely = surely_reaches(self.target, limit, predict(count))
        return surely and (count == 1 or not may_reach(self.target, limit, predict(count - 1)))

    def refuse_what_is_reached(self, whole: Interval, limit: float) -> None:
        """Raises InvalidInput where nothing need go."""
        if surely_reaches(self.target, limit, whole):
            typed = TARGET_FIGURES[self.target.figure].format.typed(limit)
            way = "more" if self.target.least else "less"
            raise InvalidInput.field(
                self.place,
                f"the original has it as it is: {shown(self.target, whole)} {self.where} on this worker",
                value=self.target.value,
                expected=f"{way} than the original has, and not {typed}",
            )

    def out_of_reach(self, best: Interval, limit: float, *, what: str, without: str, more: str) -> InvalidInput:
        """The error for a target that nothing reaches.

        Args:
            what: was tried: "depth".
            without: how the best was made: "without 24 of the 30 blocks, and one has to stay".
            more: what else might help, ", or …".
        """
        figure = TARGET_FIGURES[self.target.figure]
        worst = best.low if self.target.least else best.high
        return InvalidInput.field(
            self.place,
            f"no {what} reaches {figure.format.typed(limit)}: {shown(self.target, best)} {self.where} is the best on "
            f"this worker, {without}",
            value=self.target.value,
            expected=f"{'at most' if self.target.least else 'at least'} {figure.format.write(worst)}{more}",
        )
