"""The correct stage: whether the benchmark of the real result leaves a measured target out, and what follows.

The plan has timed depths of its own, before anything was trained. Where the paired benchmark says otherwise, on either
side, the plan's line is moved so that it goes through what was measured, and the least number of blocks is taken that
reaches the target by it. The model is then pruned, recovered and measured once more, by stages that the job gets from
here; those have no correction after them, so that never happens twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from secateur.contract.depth import most_that_may_go
from secateur.contract.measurements import Benchmarks, Interval
from secateur.contract.options.target import Target
from secateur.contract.options.training import TrainedRecovery
from secateur.contract.planning import Corrected, Planned, TimedDepth
from secateur.contract.rounds import second_round
from secateur.contract.stage_kinds import BENCHMARK, PLAN
from secateur.contract.target_figures import TARGET_FIGURES, leaves_out, may_reach, reading_of, shown, surely_reaches
from secateur.contract.targets import limit_of
from secateur.report.text import plural
from workers.engine.benchmarks.depth_fit import MovedLine, least_depth
from workers.stages.context import StageContext


def run(context: StageContext) -> Corrected:
    """Hold the result to its target, and begin a second round where that can do better."""
    spec, planned = context.stage.spec, context.read(PLAN)
    assert spec.target is not None, "only a job with a target has this stage"
    most = most_that_may_go(planned.model.blocks, plus=spec.scoring.plus)
    final = "pruned" if spec.recovery.kind == "none" else "recovered"
    found = corrected(spec.target, planned, context.read(BENCHMARK), final=final, most=most)
    if isinstance(spec.recovery, TrainedRecovery) and spec.recovery.warm_start is not None:
        found = left_as_it_is(found)
    if found.again:
        context.add(*second_round(spec))
    context.log(found.message)
    return found


def left_as_it_is(found: Corrected) -> Corrected:
    """Where the recovery begins with an earlier job's model, which fits no other set of blocks."""
    if not found.again:
        return found
    message = f"{found.message}; no second round, since the recovery begins with a model without {found.planned}"
    return found.model_copy(update={"removed": found.planned, "predicted": None, "message": message})


def corrected(target: Target, planned: Planned, benchmarks: Benchmarks, *, final: str, most: int) -> Corrected:
    """The number of blocks that is to go by what was measured of `final`, the variant that is handed out.

    Args:
        most: blocks that may go.
    """
    original = reading_of(target, benchmarks.variants[0])
    whole = 1.0 if original is None else original.median
    limit = planned.limit if original is None else limit_of(target, whole)
    reading = reading_of(target, next(variant for variant in benchmarks.variants if variant.variant == final))
    if reading is None:
        count, predicted, message = planned.removed, None, "the benchmark has no figure to hold to the target"
    else:
        line = MovedLine(planned.removed, reading, whole, planned.per_block, inverse=target.least)
        count, message = _Choice(target, limit, planned, reading, line, most).made()
        predicted = TimedDepth.of(count, line.at(count))
    return Corrected(
        figure=target.figure,
        limit=limit,
        planned=planned.removed,
        measured=None if reading is None else TimedDepth.of(planned.removed, reading),
        removed=count,
        predicted=predicted,
        message=message,
    )


@dataclass(frozen=True)
class _Choice:
    """A number of blocks, and why it is that."""

    target: Target
    limit: float
    planned: Planned
    reading: Interval  # by the benchmark, of the plan's number
    line: MovedLine
    most: int

    def made(self) -> tuple[int, str]:
        count = self.planned.removed
        asked = TARGET_FIGURES[self.target.figure].format.typed(self.limit)
        came = f"{shown(self.target, self.reading)} was measured without {plural(count, 'block')}"
        if not leaves_out(self.limit, self.reading):
            return count, f"{came}, an interval that holds the {asked} asked for"
        missed = not may_reach(self.target, self.limit, self.reading)
        came += f", which {'misses' if missed else 'is better than'} the {asked} asked for"
        least = self._least()
        if least is None:
            deepest = self.line.at(self.most)
            return count, (
                f"{came}, and no depth reaches it: {shown(self.target, deepest)} is expected without "
                f"{self.most} of {plural(self.planned.model.blocks, 'block')}, the most that may go"
            )
        if least == count:
            return count, f"{came}, and {count - 1} are not expected to reach it"
        foreseen = shown(self.target, self.line.at(least))
        return least, f"{came}: the plan's line, moved to go through that, gives {foreseen} without {least}"

    def _least(self) -> int | None:
        """By the worse end; at the edge of what depth gives, by the better one."""
        least = least_depth(lambda count: surely_reaches(self.target, self.limit, self.line.at(count)), self.most)
        if least is None and may_reach(self.target, self.limit, self.line.at(self.most)):
            return self.most
        return least
