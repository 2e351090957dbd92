"""How many experts of a mixture may go: the arithmetic that is known before anything is judged."""

from __future__ import annotations

from secateur.contract.errors import InvalidInput
from secateur.contract.options.pruning import ExpertPruning


def experts_to_remove(pruning: ExpertPruning, experts: int) -> int:
    """How many of so many experts are asked to go: a ratio is rounded to whole experts, to at least one."""
    if pruning.experts is not None:
        return pruning.experts
    assert pruning.ratio is not None
    return max(1, round(pruning.ratio * experts))


def check_experts(pruning: ExpertPruning, experts: int, *, pointer: str = "/pruning") -> None:
    """Refuse to remove all of a mixture's `experts`.

    Raises:
        InvalidInput: no expert would be left.
    """
    asked = experts_to_remove(pruning, experts)
    if asked < experts:
        return
    name = "ratio" if pruning.experts is None else "experts"
    most = experts - 1
    expected = f"a ratio that removes at most {most} of {experts} experts" if name == "ratio" else f"at most {most}"
    if most == 0:
        expected = "another kind of pruning"
    raise InvalidInput.field(
        f"{pointer}/{name}",
        f"`{name}` removes {asked} experts, and a mixture of the model has {experts}",
        value=getattr(pruning, name),
        expected=expected,
    )
