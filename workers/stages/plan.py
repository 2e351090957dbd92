"""The plan stage: how many blocks have to go so that a target of speed or memory is reached on this worker.

A few depths are measured in turn with the original, a line is fitted, and the least depth is taken whose prediction
reaches the target with the worse end of its interval. That depth is then measured by itself; where its interval leaves
the target out, the number is corrected once by what it has shown. Nothing is scored or trained for it: blocks of one
size cost the same, so it does not matter which of them are left out. The job's benchmark measures the real result.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from secateur.contract.depth import most_that_may_go, plus_protected
from secateur.contract.errors import InvalidInput
from secateur.contract.measurements import Interval
from secateur.contract.models.positions import positions_of
from secateur.contract.options.pruning import DepthPruning
from secateur.contract.options.target import Target
from secateur.contract.results import Planned, TimedDepth
from secateur.contract.target_figures import TARGET_FIGURES, may_reach, surely_reaches
from secateur.contract.targets import POINTER, limit_of
from workers.engine.benchmarks.depth_fit import least_depth
from workers.engine.benchmarks.latency import Cell
from workers.engine.runtime import Machine, environment
from workers.stages.benchmark_speed import grid, timed_as
from workers.stages.context import StageContext
from workers.stages.fields import MODEL, PRUNING, told_in
from workers.stages.original import Original, open_original, prepare_machine
from workers.stages.plan_measures import Depths, MemoryOfDepths, SpeedOfDepths


@told_in("/pruning", {**MODEL, **PRUNING})
def run(context: StageContext) -> Planned:
    """Find the number of blocks.

    Raises:
        InvalidInput: the original reaches the target as it is, or no depth does.
        UnsupportedModel: a kept block would work differently under its new number.
    """
    began = time.monotonic()
    machine = prepare_machine(context)
    original = open_original(context)
    job = _Job.of(context, original, machine)
    measures: Depths = (
        MemoryOfDepths(context, original, machine, job.cell, job.free)
        if job.target.figure == "memory"
        else SpeedOfDepths(context, original, machine, job.cell, job.free, job.target.figure)
    )
    tried, whole = measures.fit(job.most), measures.of_original()
    limit, notes = limit_of(job.target, whole.median), []
    job.refuse_what_is_reached(whole, limit)

    def least() -> int | None:
        return least_depth(lambda count: surely_reaches(job.target, limit, measures.predict(count)), job.most)

    chosen = least()
    if chosen is None:
        deepest = tried[-1][1]
        if not may_reach(job.target, limit, deepest):
            raise job.out_of_reach(deepest, limit)
        chosen = job.most
        notes.append(_AT_THE_EDGE)
    predicted, confirmed, corrected_from = measures.predict(chosen), measures.confirm(chosen), None
    if job.leaves_out(limit, confirmed):
        better = least() or job.most
        if better != chosen:
            context.log(f"{job.shown(confirmed)} without {chosen} blocks: {better} are tried")
            foreseen, found = measures.predict(better), measures.confirm(better)
            if may_reach(job.target, limit, found) or not may_reach(job.target, limit, confirmed):
                chosen, corrected_from, predicted, confirmed = better, chosen, foreseen, found
    context.log(f"{chosen} of {original.info.blocks} blocks go: {job.shown(confirmed)} as measured without so many")
    return Planned(
        figure=job.target.figure,
        asked=job.target.value,
        limit=limit,
        batch_size=job.cell.batch_size,
        input_tokens=job.cell.input_tokens,
        output_tokens=job.cell.output_tokens,
        original=_depth(0, whole),
        tried=[_depth(count, figure) for count, figure in tried],
        per_block=measures.per_block,
        removed=chosen,
        predicted=_depth(chosen, predicted),
        confirmed=_depth(chosen, confirmed),
        corrected_from=corrected_from,
        runs=measures.runs,
        model=original.info,
        seconds=time.monotonic() - began,
        environment=environment(machine),
        notes=[*notes, *measures.notes],
    )


_AT_THE_EDGE = (
    "The target is at the edge of what depth gives: only the better end of the interval reaches it, with all blocks "
    "gone that may go."
)


@dataclass(frozen=True)
class _Job:
    """What is asked for, and of what."""

    target: Target
    cell: Cell
    blocks: int
    free: list[int]  # blocks that may go
    plus: bool

    @classmethod
    def of(cls, context: StageContext, original: Original, machine: Machine) -> _Job:
        spec, blocks = context.stage.spec, original.info.blocks
        assert isinstance(spec.pruning, DepthPruning), "only depth has targets"
        assert spec.pruning.target is not None, "such a job has no plan"
        target, plus = spec.pruning.target, spec.scoring.plus
        cells = grid(timed_as(context, positions_of(original.checkpoint.config)))
        cell = next(
            cell
            for cell in cells
            if target.batch_size in (None, cell.batch_size) and target.output_tokens in (None, cell.output_tokens)
        )
        protected = plus_protected(blocks) if plus else ()
        return cls(target, cell, blocks, [block for block in range(blocks) if block not in protected], plus)

    @property
    def most(self) -> int:
        return most_that_may_go(self.blocks, plus=self.plus)

    @property
    def place(self) -> str:
        return f"{POINTER}/{self.target.figure}"

    @property
    def where(self) -> str:
        return f"at batch {self.cell.batch_size}, {self.cell.input_tokens} + {self.cell.output_tokens} tokens"

    def shown(self, reading: Interval) -> str:
        """ "a speedup of 1.31× (1.28 to 1.35)"."""
        figure = TARGET_FIGURES[self.target.figure]
        span = figure.format.span(reading.low, reading.high) if reading.low < reading.high else ""
        return f"{figure.title} {figure.format.write(reading.median)}" + (f" ({span})" if span else "")

    def leaves_out(self, limit: float, reading: Interval) -> bool:
        return not may_reach(self.target, limit, reading) or reading.low > limit or reading.high < limit

    def refuse_what_is_reached(self, whole: Interval, limit: float) -> None:
        """Raises InvalidInput where nothing need go."""
        if surely_reaches(self.target, limit, whole):
            typed = TARGET_FIGURES[self.target.figure].format.typed(limit)
            way = "more" if self.target.least else "less"
            raise InvalidInput.field(
                self.place,
                f"the original has it as it is: {self.shown(whole)} {self.where} on this worker",
                value=self.target.value,
                expected=f"{way} than the original has, and not {typed}",
            )

    def out_of_reach(self, best: Interval, limit: float) -> InvalidInput:
        kept = f', and the "+" rule keeps {self.blocks - self.most}' if self.plus else ", and one has to stay"
        figure = TARGET_FIGURES[self.target.figure]
        worst = best.low if self.target.least else best.high
        return InvalidInput.field(
            self.place,
            f"no depth reaches {figure.format.typed(limit)}: {self.shown(best)} {self.where} is the best on this "
            f"worker, without {self.most} of the {self.blocks} blocks{kept}",
            value=self.target.value,
            expected=f"{'at most' if self.target.least else 'at least'} {figure.format.write(worst)}"
            + (', or "plus": false in `scoring`' if self.plus else ""),
        )


def _depth(removed: int, reading: Interval) -> TimedDepth:
    exact = reading.low == reading.high
    return TimedDepth(
        removed=removed,
        value=reading.median,
        low=None if exact else reading.low,
        high=None if exact else reading.high,
    )
