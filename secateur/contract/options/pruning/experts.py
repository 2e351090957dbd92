"""Expert pruning as a job asks for it: its options, and the arithmetic that is known before anything is judged."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from secateur.contract.errors import InvalidInput
from secateur.contract.options.method import Method
from secateur.contract.options.texts import Calibration


class ExpertPruning(Method):
    """Exactly one of `experts` and `ratio` says how much goes; every mixture loses the same number."""

    title = "Expert pruning"
    summary = (
        "Removes experts of a mixture, as many in every block, with their rows of the router. The model takes less "
        "memory and computes as much for a token as before, and loads as it is."
    )
    paper = "Lasby et al. 2025, REAP, arXiv 2510.13999"

    kind: Literal["experts"]
    experts: int | None = Field(default=None, ge=1, description="How many experts to remove from every mixture.")
    ratio: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Fraction of every mixture's experts to remove; rounded to whole experts, at least one.",
    )
    criterion: Literal["reap", "frequency", "reconstruction"] = Field(
        default="reap",
        description="What an expert is judged by: the mean over its tokens of gate times norm of its output (reap), "
        "the share of tokens that go to it (frequency), or how much the mixture's output changes without it "
        "(reconstruction).",
    )
    calibration: Calibration = Field(
        default_factory=lambda: Calibration(samples=128), description="The text on which experts are judged."
    )

    @model_validator(mode="after")
    def _one_of(self) -> ExpertPruning:
        if (self.experts is None) == (self.ratio is None):
            raise PydanticCustomError(
                "exactly_one",
                "give exactly one of `experts` and `ratio`",
                {"expected": "one of experts, ratio"},
            )
        return self


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
