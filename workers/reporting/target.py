"""What became of a job's target: asked for, chosen, reached."""

from __future__ import annotations

from secateur.contract import numbers as n
from secateur.contract.options.pruning import DepthPruning
from secateur.contract.options.target import Target
from secateur.contract.report import TargetOutcome
from secateur.contract.results import Pruned
from secateur.contract.spec import CompressionSpec
from secateur.contract.targets import limit_of
from secateur.report.text import plural


def target_outcome(spec: CompressionSpec, pruned: Pruned) -> TargetOutcome | None:
    """None where the job has no target."""
    target = spec.pruning.target if isinstance(spec.pruning, DepthPruning) else None
    return None if target is None else _of_size(target, pruned)


def _of_size(target: Target, pruned: Pruned) -> TargetOutcome:
    sizes = {
        "parameters": (pruned.parameters_before, pruned.parameters_after),
        "bytes": (pruned.bytes_before, pruned.bytes_after),
    }
    before, after = sizes[target.figure]
    limit = limit_of(target, before)
    share = f" ({n.percent(target.value)} of the original's)" if target.value < 1 else ""
    gone = f"{len(pruned.dropped)} of {plural(pruned.model.blocks, 'block')}"
    return TargetOutcome(
        figure=target.figure,
        asked=target.value,
        limit=limit,
        removed=len(pruned.dropped),
        value=after,
        met=after <= limit,
        message=f"at most {limit:,.0f} {target.figure}{share}: {gone} had to go, and {after:,} are left",
    )
