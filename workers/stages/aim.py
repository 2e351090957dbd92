"""What a measured target aims at: in which cell, in what words, and when the original is there already."""

from __future__ import annotations

from dataclasses import dataclass

from secateur.contract.errors import InvalidInput
from secateur.contract.measurements import Interval
from secateur.contract.models.positions import positions_of
from secateur.contract.options.target import Target
from secateur.contract.target_figures import TARGET_FIGURES, shown, surely_reaches
from secateur.contract.targets import POINTER
from workers.engine.benchmarks.latency import Cell
from workers.stages.benchmark_speed import grid, timed_as
from workers.stages.context import StageContext
from workers.stages.original import Original


@dataclass(frozen=True)
class Aim:
    """A target of speed or memory, and the cell of the benchmark in which it is measured."""

    target: Target
    cell: Cell

    @classmethod
    def of(cls, context: StageContext, original: Original) -> Aim:
        target = context.stage.spec.target
        assert target is not None, "only a job with a target has an aim"
        cells = grid(timed_as(context, positions_of(original.checkpoint.config)))
        cell = next(
            cell
            for cell in cells
            if target.batch_size in (None, cell.batch_size) and target.output_tokens in (None, cell.output_tokens)
        )
        return cls(target, cell)

    @property
    def place(self) -> str:
        """The target's pointer."""
        return f"{POINTER}/{self.target.figure}"

    @property
    def where(self) -> str:
        """ "at batch 1, 12 + 128 tokens"."""
        return f"at batch {self.cell.batch_size}, {self.cell.input_tokens} + {self.cell.output_tokens} tokens"

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
