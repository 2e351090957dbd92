"""The search stage: how many blocks can go within the constraints, by bisection over the depth.

Blocks are scored once, and a depth is the first blocks of that order. Each depth that is tried is healed quickly, as a
proxy for the recovery, and held to the constraints on samples that were held out, with the worse ends of its intervals.
That every further block takes the model further away is taken for granted. One depth is then recovered and measured by
the ordinary stages, and the report says what was foreseen and what came.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from secateur.contract import numbers as n
from secateur.contract.depth import most_that_may_go, plus_protected
from secateur.contract.errors import InvalidInput
from secateur.contract.options.constraints import SEARCHED, Constraints
from secateur.contract.options.pruning import DepthPruning
from secateur.contract.planning import Searched, TriedDepth
from secateur.contract.results import Scored
from secateur.contract.stage_kinds import SCORE
from secateur.contract.targets import CONSTRAINTS
from workers.engine.benchmarks.healed_distance import HealedDistance
from workers.engine.checkpoints.computable import refuse_uncomputable
from workers.engine.runtime import environment
from workers.stages.block_model import block_model
from workers.stages.choice import NO_SCORING, first_that_may_go
from workers.stages.context import StageContext
from workers.stages.fields import MODEL, PRUNING, told_in
from workers.stages.original import calibration_tokens, open_original, prepare_machine


@told_in("/pruning", {**MODEL, **PRUNING, "calibration": f"{CONSTRAINTS}/calibration", "weights": CONSTRAINTS})
def run(context: StageContext) -> Searched:
    """Find the number of blocks.

    Raises:
        InvalidInput: not even one block can go within the constraints, or the text is too short.
        UnsupportedModel: the model is quantised, and this machine has no kernels for it.
    """
    began = time.monotonic()
    spec = context.stage.spec
    assert isinstance(spec.pruning, DepthPruning), "only depth has constraints"
    assert spec.pruning.constraints is not None, "such a job has no search"
    constraints, plus = spec.pruning.constraints, spec.scoring.plus
    machine, original = prepare_machine(context), open_original(context)
    refuse_uncomputable(original.checkpoint.config, expected=NO_SCORING)
    ids, text = calibration_tokens(
        context, original, machine, constraints.calibration, pointer=f"{CONSTRAINTS}/calibration"
    )
    model = block_model(original.checkpoint, machine, original.info.parameters)
    heals = spec.recovery.kind != "none"
    blocks = original.info.blocks
    protected = frozenset(plus_protected(blocks) if plus else ())
    tries = _Tries(
        context, HealedDistance(model, model.check_ids(ids), heals=heals, seed=spec.seed), constraints, protected
    )
    removed = tries.most_within(most_that_may_go(blocks, plus=plus))
    found = [tries.found[count] for count in sorted(tries.found)]
    if removed == 0:
        raise _none_within(constraints, found[0])
    context.log(f"{removed} of {blocks} blocks can go within the constraints")
    return Searched(
        limits={name: limit for name, limit in constraints.limits.items() if name in SEARCHED},
        tried=found,
        removed=removed,
        healed=heals,
        fitted_tokens=tries.proxy.tokens[0],
        judged_tokens=tries.proxy.tokens[1],
        text=text,
        model=original.info,
        seconds=time.monotonic() - began,
        environment=environment(machine),
    )


@dataclass
class _Tries:
    """Depths that have been tried."""

    context: StageContext
    proxy: HealedDistance
    constraints: Constraints
    protected: frozenset[int]
    found: dict[int, TriedDepth] = field(default_factory=dict)

    @property
    def scored(self) -> Scored:
        return self.context.read(SCORE)

    def most_within(self, most: int) -> int:
        """The greatest number of blocks that keeps the constraints, by bisection; 0 where not even one does."""
        within, beyond = 0, most + 1
        steps = most.bit_length()
        while beyond - within > 1:
            middle = (within + beyond) // 2
            if self._try(middle).within:
                within = middle
            else:
                beyond = middle
            self.context.progress(min(len(self.found), steps), steps, "depths")
        return within

    def _try(self, removed: int) -> TriedDepth:
        scored = self.scored
        drop = first_that_may_go(scored, removed, self.protected)
        with self.context.part(f"without {removed} blocks"):
            distance = self.proxy.distance([block for block in range(len(scored.blocks)) if block not in drop])
        (kl, kl_low, kl_high), (same, same_low, same_high) = distance.kl, distance.top1_agreement
        depth = TriedDepth(
            removed=removed,
            kl=kl,
            kl_low=kl_low,
            kl_high=kl_high,
            top1_agreement=same,
            top1_agreement_low=same_low,
            top1_agreement_high=same_high,
            within=self._keeps(kl if kl_high is None else kl_high, same if same_low is None else same_low),
        )
        self.context.log(f"without {removed} blocks: {_shown(depth)}")
        self.found[removed] = depth
        return depth

    def _keeps(self, kl: float, same: float) -> bool:
        most, least = self.constraints.max_kl, self.constraints.min_top1_agreement
        return (most is None or kl <= most) and (least is None or same >= least)


def _shown(depth: TriedDepth) -> str:
    """ "KL 0.214 (0.190 to 0.241), top-1 agreement 81.0 % (79.2 to 82.5 %)"."""
    kl, same = (
        n.NUMBER.span(depth.kl_low, depth.kl_high),
        n.PERCENT.span(depth.top1_agreement_low, depth.top1_agreement_high),
    )
    return (
        f"KL {n.NUMBER.write(depth.kl)}" + (f" ({kl})" if kl else "") + ", top-1 agreement "
        f"{n.PERCENT.write(depth.top1_agreement)}" + (f" ({same})" if same else "")
    )


def _none_within(constraints: Constraints, best: TriedDepth) -> InvalidInput:
    limits = constraints.limits
    return InvalidInput.field(
        CONSTRAINTS,
        f"no depth keeps the constraints: without a single block it is {_shown(best)} on held-out samples",
        value=limits,
        expected="constraints that a model without one block keeps, another criterion, or more text",
    )
