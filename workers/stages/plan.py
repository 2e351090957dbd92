"""The plan stage: how many blocks have to go so that a target of speed or memory is reached on this worker.

A few depths are measured in turn with the original, a line is fitted, and the least depth is taken whose prediction
reaches the target (docs/decisions/targets.md says why it is not the worse end that decides). That depth is then
measured by itself; where its interval leaves the target out, the number is corrected once by what it has shown. Nothing
is scored or trained for it: blocks of one size cost the same, so it does not matter which of them are left out. The
job's benchmark measures the real result.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from secateur.contract.depth import most_that_may_go, plus_protected
from secateur.contract.errors import InvalidInput
from secateur.contract.measurements import Interval
from secateur.contract.planning import Planned, TimedDepth
from secateur.contract.target_figures import leaves_out, may_reach, shown
from secateur.contract.targets import limit_of
from workers.engine.benchmarks.depth_fit import least_depth
from workers.engine.runtime import environment
from workers.stages.aim import Aim
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
    job = _Job.of(context, original)
    aim, target, cell = job.aim, job.aim.target, job.aim.cell
    measures: Depths = (
        MemoryOfDepths(context, original, machine, cell, job.free, job.most)
        if target.figure == "memory"
        else SpeedOfDepths(context, original, machine, aim, job.free, job.most)
    )
    tried, whole = measures.fit(), measures.of_original()
    limit, notes = limit_of(target, whole.median), []
    aim.refuse_what_is_reached(whole, limit)

    def least() -> int | None:
        return least_depth(lambda count: aim.chooses(limit, measures.predict(count)), job.most)

    chosen = least()
    if chosen is None:
        deepest = tried[-1][1]
        if not may_reach(target, limit, deepest):
            raise job.out_of_reach(deepest, limit)
        chosen = job.most
        notes.append(_AT_THE_EDGE)
    predicted, confirmed, corrected_from = measures.predict(chosen), measures.confirm(chosen), None
    if leaves_out(limit, confirmed):
        better = least() or job.most
        if better != chosen:
            context.log(f"{shown(target, confirmed)} without {chosen} blocks: {better} are tried")
            foreseen, found = measures.predict(better), measures.confirm(better)
            if aim.chooses(limit, found) or not may_reach(target, limit, confirmed):
                chosen, corrected_from, predicted, confirmed = better, chosen, foreseen, found
    context.log(f"{chosen} of {original.info.blocks} blocks go: {shown(target, confirmed)} as measured without so many")
    return Planned(
        figure=target.figure,
        asked=target.value,
        limit=limit,
        batch_size=cell.batch_size,
        input_tokens=cell.input_tokens,
        output_tokens=cell.output_tokens,
        original=TimedDepth.of(0, whole),
        tried=[TimedDepth.of(count, figure) for count, figure in tried],
        per_block=measures.per_block,
        removed=chosen,
        predicted=TimedDepth.of(chosen, predicted),
        confirmed=TimedDepth.of(chosen, confirmed),
        corrected_from=corrected_from,
        runs=measures.runs,
        timed_tokens=measures.timed_tokens,
        model=original.info,
        seconds=time.monotonic() - began,
        environment=environment(machine),
        notes=[*notes, *measures.notes],
    )


_AT_THE_EDGE = (
    "The target is at the edge of what depth gives: with all blocks gone that may go, it is within the interval, and "
    "no sooner."
)


@dataclass(frozen=True)
class _Job:
    """What is asked for, and of what."""

    aim: Aim
    blocks: int
    free: list[int]  # blocks that may go
    plus: bool

    @classmethod
    def of(cls, context: StageContext, original: Original) -> _Job:
        plus, blocks = context.stage.spec.scoring.plus, original.info.blocks
        protected = plus_protected(blocks) if plus else ()
        free = [block for block in range(blocks) if block not in protected]
        return cls(Aim.of(context, original), blocks, free, plus)

    @property
    def most(self) -> int:
        return most_that_may_go(self.blocks, plus=self.plus)

    def out_of_reach(self, best: Interval, limit: float) -> InvalidInput:
        kept = f', and the "+" rule keeps {self.blocks - self.most}' if self.plus else ", and one has to stay"
        return self.aim.out_of_reach(
            best,
            limit,
            what="depth",
            without=f"without {self.most} of the {self.blocks} blocks{kept}",
            more=', or "plus": false in `scoring`' if self.plus else "",
        )
