"""What a pruned model is to reach, in place of how much of it goes: one figure of the result.

How many blocks that takes is the arithmetic of `secateur/contract/targets.py`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from secateur.contract.options.method import Options


def _size(value: float) -> float:
    if value >= 1 and value != int(value):
        raise PydanticCustomError(
            "share_or_count",
            "{value} is neither a share of the original nor a whole number",
            {"value": value, "expected": "a share below 1, such as 0.8, or a whole number"},
        )
    return value


Size = Annotated[float, Field(gt=0), AfterValidator(_size)]  # below 1 a share of the original's, else the number itself


class Target(Options):
    """Exactly one figure that the pruned model is to reach; as many blocks go as that takes, and no more."""

    parameters: Size | None = Field(
        default=None,
        description="At most so many parameters; below 1, at most this share of the original's.",
        examples=[0.8, 100_000_000],
    )
    bytes: Size | None = Field(
        default=None,
        description="At most so many bytes of weights in the checkpoint; below 1, at most this share of the "
        "original's. A GGUF file counts as it is unpacked.",
        examples=[0.8, 400_000_000],
    )

    @model_validator(mode="after")
    def _one_of(self) -> Target:
        given = [name for name in FIGURES if getattr(self, name) is not None]
        if len(given) != 1:
            raise PydanticCustomError(
                "exactly_one",
                "give exactly one of {names}, not {given}",
                {
                    "names": " and ".join(f"`{name}`" for name in FIGURES),
                    "given": " and ".join(given) or "none",
                    "expected": f"one of {', '.join(FIGURES)}",
                },
            )
        return self

    @property
    def figure(self) -> str:
        """The one that is to be reached: "parameters"."""
        return next(name for name in FIGURES if getattr(self, name) is not None)

    @property
    def value(self) -> float:
        """As it was asked for: a share, or the figure itself."""
        value: float = getattr(self, self.figure)
        return value


FIGURES = tuple(Target.model_fields)
