"""The costs stage: what an attention and an MLP take of a model's time or memory on this worker.

Joint pruning spends its budget by these. The original and a few models without some attentions, some MLPs, or both
are measured in turn, and a plane is fitted. Nothing is scored for it: halves of one kind cost the same, whichever
they are. How much has to be saved is said so that the worse end of the prediction reaches the target. The job's
benchmark measures the real result.
"""

from __future__ import annotations

import time

from secateur.contract.joint import WHOLE, Part, largest, parts_of, saved_by
from secateur.contract.measurements import Interval
from secateur.contract.options.joint import JointPruning
from secateur.contract.planning import Share, TimedHalves, UnitCosts
from secateur.contract.target_figures import may_reach, surely_reaches
from secateur.contract.targets import limit_of
from workers.engine.benchmarks.unit_fit import needed_saving
from workers.engine.pruning.sub_block_layout import halves_layout
from workers.engine.runtime import environment
from workers.stages.aim import Aim
from workers.stages.context import StageContext
from workers.stages.cost_measures import Costs, Free, MemoryOfHalves, SpeedOfHalves
from workers.stages.fields import MODEL, PRUNING, told_in
from workers.stages.joint_budget import BILLION, cost_of
from workers.stages.original import open_original, prepare_machine


@told_in("/pruning", {**MODEL, **PRUNING})
def run(context: StageContext) -> UnitCosts:
    """Measure.

    Raises:
        InvalidInput: the original reaches the target as it is, or nothing does.
        UnsupportedModel: a family whose halves are not found by structure.
    """
    began = time.monotonic()
    machine, original = prepare_machine(context), open_original(context)
    halves_layout(original.checkpoint)  # refused before anything is timed
    pruning, blocks = context.stage.spec.pruning, original.info.blocks
    assert isinstance(pruning, JointPruning), "only joint pruning has costs"
    aim, free = Aim.of(context, original), _free(pruning, blocks)
    measures: Costs = (
        MemoryOfHalves(context, original, machine, aim.cell, free)
        if aim.target.figure == "memory"
        else SpeedOfHalves(context, original, machine, aim, free)
    )
    tried, whole = measures.fit(), measures.of_original()
    limit = limit_of(aim.target, whole.median)
    notes: list[str] = []
    aim.refuse_what_is_reached(whole, limit)
    attention, mlp = measures.shares
    medians = attention.median, mlp.median
    most = largest(parts_of(pruning, blocks, lambda _, goes: cost_of(goes, *medians)), blocks)
    counts = _counted(most)
    best = saved_by(most)
    needed = needed_saving(
        lambda a, m: surely_reaches(aim.target, limit, measures.predict(a, m)),
        (cost_of("attention", *medians), cost_of("mlp", *medians)),
        (len(free.attentions), len(free.mlps)),
        within=best,
    )
    if needed is None:
        foreseen = measures.predict(*counts)
        if not most or not may_reach(aim.target, limit, foreseen):
            without = f"without {counts[0]} attentions and {counts[1]} MLPs of {blocks} blocks, all that may go"
            raise aim.out_of_reach(
                foreseen, limit, what="choice", without=without, more=", fewer protected halves, or more choices"
            )
        needed = best
        notes += [] if surely_reaches(aim.target, limit, foreseen) else [_AT_THE_EDGE]
    context.log(
        f"an attention takes {attention.median:.2%} of the original and an MLP {mlp.median:.2%}; "
        f"{needed / BILLION:.1%} have to go"
    )
    return UnitCosts(
        figure=aim.target.figure,
        asked=aim.target.value,
        limit=limit,
        batch_size=aim.cell.batch_size,
        input_tokens=aim.cell.input_tokens,
        output_tokens=aim.cell.output_tokens,
        original=_halves(0, 0, whole),
        tried=[_halves(*one) for one in tried],
        attention=_share(attention),
        mlp=_share(mlp),
        needed=needed / BILLION,
        runs=measures.runs,
        timed_tokens=measures.timed_tokens,
        model=original.info,
        seconds=time.monotonic() - began,
        environment=environment(machine),
        notes=[*notes, *measures.notes],
    )


_AT_THE_EDGE = (
    "The target is at the edge of what can be reached: only the better end of the interval reaches it, with all gone "
    "that may go."
)


def _free(pruning: JointPruning, blocks: int) -> Free:
    parts = parts_of(pruning, blocks, lambda block, goes: 1)
    attentions, mlps = (
        sorted({part.block for part in parts if part.goes in (half, WHOLE)}) for half in ("attention", "mlp")
    )
    return Free(attentions, mlps, blocks)


def _counted(parts: list[Part]) -> tuple[int, int]:
    """How many attentions and MLPs go with these parts."""
    return sum(part.goes != "mlp" for part in parts), sum(part.goes != "attention" for part in parts)


def _halves(attentions: int, mlps: int, reading: Interval) -> TimedHalves:
    exact = reading.low == reading.high
    return TimedHalves(
        attentions=attentions,
        mlps=mlps,
        value=reading.median,
        low=None if exact else reading.low,
        high=None if exact else reading.high,
    )


def _share(found: Interval) -> Share:
    exact = found.low == found.high
    return Share(value=found.median, low=None if exact else found.low, high=None if exact else found.high)
