"""An estimate as the API shows it."""

from __future__ import annotations

from pydantic import Field

from secateur.schemas.base import Body


class SizeEstimate(Body):
    """One model, before or after."""

    blocks: int
    parameters_estimate: int
    bytes_estimate: int
    kv_bytes_per_token_estimate: int = Field(description="Cache of one sequence.")


class Estimate(Body):
    """What pruning would give; nothing of it was measured."""

    family: str
    original: SizeEstimate
    pruned: SizeEstimate
    speedup_estimate: float = Field(description="Of generation at batch 1, by the weights that each token reads.")
    notes: list[str]
