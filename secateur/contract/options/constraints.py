"""How far from the original a pruned model may be: as many blocks go as that allows.

The search for the number is `workers/stages/search.py`. The report judges constraints as the gates of their names.
"""

from __future__ import annotations

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from secateur.contract.options.method import Options
from secateur.contract.options.texts import Calibration


class Constraints(Options):
    """Limits within which as many blocks go as can; each is judged as a gate of the result too."""

    max_kl: float | None = Field(
        default=None, gt=0, description="Greatest mean KL divergence from the original, nats per token."
    )
    min_top1_agreement: float | None = Field(
        default=None, gt=0, lt=1, description="Least top-1 agreement with the original."
    )
    max_accuracy_drop: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Greatest loss of accuracy against the original, mean over the tasks. The search does not see it: "
        "it is judged on the result alone, beside one of the others.",
    )
    calibration: Calibration = Field(
        default_factory=lambda: Calibration(samples=64),
        description="The text of the search: depths are healed on four fifths of it and judged on the last fifth.",
    )

    @model_validator(mode="after")
    def _something_to_search_by(self) -> Constraints:
        if all(getattr(self, name) is None for name in SEARCHED):
            raise PydanticCustomError(
                "nothing_to_search_by",
                "the search for the depth goes by {names}, and none of them is given",
                {
                    "names": " and ".join(f"`{name}`" for name in SEARCHED),
                    "expected": f"at least one of {', '.join(SEARCHED)}",
                },
            )
        return self

    @property
    def limits(self) -> dict[str, float]:
        """Those that are given, by the names of their gates."""
        return {name: limit for name in LIMITS if (limit := getattr(self, name)) is not None}


SEARCHED = ("max_kl", "min_top1_agreement")  # what a healed model is held to while the depth is searched
LIMITS = (*SEARCHED, "max_accuracy_drop")
