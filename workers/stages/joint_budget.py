"""The budget of joint pruning: what each part saves in the unit of the target, and how much has to be saved."""

from __future__ import annotations

from dataclasses import dataclass

from secateur.contract.joint import WHOLE, Part, needed_of, parts_of
from secateur.contract.options.joint import JointPruning
from secateur.contract.planning import UnitCosts
from secateur.contract.stage_kinds import COSTS
from workers.engine.pruning.half_sizes import half_sizes
from workers.stages.choice import sizes_of
from workers.stages.context import StageContext
from workers.stages.original import Original

BILLION = 10**9  # shares of time and memory are counted in billionths, so that sums of them are exact
SHARE = "share"


@dataclass(frozen=True)
class Budget:
    """What may go, and how much has to."""

    parts: list[Part]
    needed: int
    unit: str  # "parameters", "bytes" or SHARE
    costs: UnitCosts | None  # where they were measured

    def written(self, saved: int) -> float:
        """As the result has it."""
        return saved / BILLION if self.unit == SHARE else saved


def budget_of(context: StageContext, original: Original, options: JointPruning) -> Budget:
    """The budget of this job.

    Raises:
        InvalidInput: the model is as small already, or not even without all that may go.
        UnsupportedModel: a family whose halves are not found by structure.
    """
    blocks, target = original.info.blocks, options.target
    if target.measured:
        costs = context.read(COSTS)
        shares = costs.attention.value, costs.mlp.value
        parts = parts_of(options, blocks, lambda _, goes: cost_of(goes, *shares))
        return Budget(parts, max(1, round(costs.needed * BILLION)), SHARE, costs)
    sizes = sizes_of(target, original.checkpoint)
    halves = half_sizes(original.checkpoint, in_bytes=target.figure == "bytes")
    parts = parts_of(
        options, blocks, lambda block, goes: sizes.per_block[block] if goes == WHOLE else halves[block, goes]
    )
    return Budget(parts, needed_of(target, sizes, parts), target.figure, None)


def cost_of(goes: str, attention: float, mlp: float) -> int:
    """What a part saves by the shares of an attention and an MLP, in billionths."""
    one, other = max(0, round(attention * BILLION)), max(0, round(mlp * BILLION))
    return {"attention": one, "mlp": other}.get(goes, one + other)
