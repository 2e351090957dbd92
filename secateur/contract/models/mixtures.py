"""How many experts a model's config declares, and what that forbids: said when a job is submitted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secateur.contract.errors import UnsupportedModel
from secateur.contract.experts import check_experts
from secateur.contract.models.families import family_of
from secateur.contract.options.pruning import ExpertPruning
from secateur.contract.spec import CompressionSpec

# What families call the number of experts of a mixture, those that all tokens share aside.
EXPERT_COUNTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")


def expert_count(config: Mapping[str, Any]) -> int | None:
    """Experts of each mixture by a model's config: 0 of a dense model, None where the config does not tell."""
    found = [count for key in EXPERT_COUNTS if type(count := config.get(key)) is int]
    if found:
        return found[0]
    family = family_of(config.get("model_type"))
    return 0 if family is not None and "moe" not in family.architecture.quirks else None


def check_mixture(spec: CompressionSpec, config: Mapping[str, Any]) -> None:
    """Refuse to prune experts that the model of this config does not have.

    Raises:
        UnsupportedModel: it has none.
        InvalidInput: it has no more than are to go.
    """
    if not isinstance(spec.pruning, ExpertPruning):
        return
    experts = expert_count(config)
    if experts == 0:
        raise no_experts(config, pointer="/pruning/kind")
    if experts is not None:
        check_experts(spec.pruning, experts)


def no_experts(config: Mapping[str, Any], *, pointer: str) -> UnsupportedModel:
    """The error for a dense model."""
    return UnsupportedModel.field(
        pointer,
        "the model is no mixture of experts, so there are none to remove",
        value=config.get("model_type"),
        expected="depth, sub_block, joint or a width method, or a mixture of experts",
    )
