"""The speedup to expect: by what benchmarks of the same model have measured, or else by the weights that are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from secateur.contract.estimates.model import KnownModel
from secateur.contract.estimates.removal import Removal
from secateur.contract.estimates.sizes import basis_in_words, speedup_by_bytes
from secateur.contract.options.width import WidthPruning
from secateur.contract.spec import CompressionSpec


@dataclass(frozen=True)
class PastSpeedup:
    """What pruning of the same kind has given the same model."""

    device: str  # its own name
    kind: str  # of pruning
    share: float  # of the parameters that went
    value: float  # at batch 1, or the smallest batch that was measured


@dataclass(frozen=True)
class Speedup:
    """Of generation at batch 1."""

    value: float
    basis: Literal["past", "bytes"]
    detail: str


def speedup(
    spec: CompressionSpec,
    model: KnownModel | None,
    removal: Removal | None,
    *,
    past: Sequence[PastSpeedup],
    device: str,
) -> Speedup | None:
    """None where neither the config nor a past benchmark tells.

    A token's time is a part that stays and a part for each parameter that is read. A past benchmark gives the latter:
    1 - 1 / speedup of the whole, for its share of the parameters. Where it was of another kind, it tells nothing.
    """
    if model is None or removal is None:
        return None
    share = removal.parameters / model.count.total
    alike = [one for one in past if (one.device, one.kind) == (device, spec.pruning.kind) and one.share > 0]
    if alike:
        saved = share * median((1 - 1 / one.value) / one.share for one in alike)
        if saved < 1:
            times = "1 benchmark" if len(alike) == 1 else f"{len(alike)} benchmarks"
            return Speedup(1 / (1 - saved), "past", f"{times} of this model, pruned in this way on this device")
    by_bytes = speedup_by_bytes(model, removal)
    if by_bytes is None:
        return None
    basis = basis_in_words(narrower=isinstance(spec.pruning, WidthPruning), fewer_tokens=spec.changes_vocabulary)
    return Speedup(by_bytes, "bytes", basis)
