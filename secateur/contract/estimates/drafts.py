"""What to expect of a draft by its size and its target's, where both are known before the job has run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secateur.contract.drafts import DraftOutlook
from secateur.contract.errors import BadCheckpoint
from secateur.contract.estimates.model import KnownModel, known_model
from secateur.contract.estimates.removal import Removal, read_for_a_token, removal_of
from secateur.contract.spec import CompressionSpec


def draft_outlook(
    spec: CompressionSpec, model: KnownModel, removal: Removal, target: KnownModel
) -> DraftOutlook | None:
    """None where the job measures no draft."""
    if spec.benchmark.draft is None:
        return None
    cost = (read_for_a_token(model) - removal.read) / read_for_a_token(target)
    return DraftOutlook(spec.benchmark.draft.tokens, cost)


def outlook_by_configs(
    spec: CompressionSpec, config: Mapping[str, Any], target: Mapping[str, Any]
) -> DraftOutlook | None:
    """By the two models' configs alone; None where these do not tell, or nothing is decided yet.

    Raises:
        InvalidInput: the model cannot lose so much.
    """
    try:
        model, larger = known_model(config), known_model(target)
    except BadCheckpoint:  # it leaves to the class's defaults what the formula asks for
        return None
    if model is None or larger is None:
        return None
    removal = removal_of(spec, model)
    return None if removal is None else draft_outlook(spec, model, removal, larger)
