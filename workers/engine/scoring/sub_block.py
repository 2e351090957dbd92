"""Greedy search over halves of blocks: remove the attention or the MLP whose loss hurts least, look again, go on.

BlockPruner (Zhong et al. 2024, arXiv 2406.10594): a block is two residual units, its attention and its MLP, and they
need not go together; attention is often the more dispensable. The search is that of `greedy.py` over 2n units, none
protected unless asked. A unit is removed by letting the residual stream pass it (`reduced_blocks.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from secateur.contract.errors import InvalidInput
from secateur.contract.sub_blocks import unit_names
from workers.engine.model.block_model import BlockModel
from workers.engine.progress import Progress, no_progress
from workers.engine.scoring.rounds import search
from workers.engine.scoring.subsets import HALVES


@dataclass(frozen=True)
class UnitScores:
    """Scores of the 2n halves of a model's blocks; unit "3.attention" is the attention of block 3."""

    units: list[str]
    values: list[float | None]  # one per unit
    standard_errors: list[float | None] | None
    order: list[str]  # from the first to be removed on
    details: dict[str, Any]


def score_units(
    model: BlockModel, ids: Tensor, *, count: int, protected: Collection[str] = (), progress: Progress = no_progress
) -> UnitScores:
    """Search for `count` units to remove; nothing is random.

    Args:
        ids: (samples, tokens) calibration tokens.
        protected: names of units that stay.

    Returns:
        Values are mean next-token losses in nats: of a removed unit that of the model after its removal, of the
        others that of the last round's model without them. The order has the removed units in the order of
        their removal, then the others by value.

    Raises:
        InvalidInput: more units are to go than may, or a protected unit does not exist.
        UnsupportedModel: where the halves end was not found by structure.
    """
    tokens = model.check_ids(ids)
    names = unit_names(model.n_blocks)
    _refuse_unknown(protected, names)
    kept = len(set(protected))
    candidates = [unit for unit, name in enumerate(names) if name not in protected]
    most = min(len(candidates), len(names) - 1)
    if not 1 <= count <= most:
        raise InvalidInput.field(
            "units",
            f"{count} units cannot be removed from a model of {len(names)} units, {kept} of them protected.",
            value=count,
            expected=f"from 1 to {most} units",
        )
    found = search(model, tokens, candidates, count=count, units=HALVES, progress=progress)
    details = {
        **found.details,
        "rounds": [{**entry, "removed": names[entry["removed"]]} for entry in found.details["rounds"]],
    }
    order = [names[unit] for unit in found.order]
    return UnitScores(names, found.values, found.standard_errors, order, details)


def _refuse_unknown(units: Collection[str], names: Sequence[str]) -> None:
    for name in units:
        if name not in names:
            raise InvalidInput.field(
                "protected",
                f'There is no unit "{name}".',
                value=name,
                expected=f'a block number and a half, from "{names[0]}" to "{names[-1]}"',
            )
