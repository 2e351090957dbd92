"""What a pruned model is to reach, in place of how much of it goes: one figure of the result.

How many blocks that takes is the arithmetic of `secateur/contract/targets.py`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from secateur.contract.options.method import Options, require_one


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

    speedup: float | None = Field(
        default=None, gt=1, description="At least so many times as fast as the original in generation.", examples=[1.3]
    )
    latency_ms: float | None = Field(default=None, gt=0, description="At most so many milliseconds for a generation.")
    tokens_per_second: float | None = Field(
        default=None, gt=0, description="At least so many tokens per second, those of all sequences of a batch."
    )
    memory: Size | None = Field(
        default=None,
        description="At most so many bytes of memory at the peak of a generation; below 1, at most this share of the "
        "original's.",
        examples=[0.8, 4_000_000_000],
    )
    batch_size: int | None = Field(
        default=None,
        ge=1,
        description="At which of the benchmark's batch sizes speed is measured; at its first if absent.",
    )
    output_tokens: int | None = Field(
        default=None,
        ge=2,
        description="At which of the benchmark's output lengths speed is measured; at its first if absent.",
    )
    plan_seconds: float | None = Field(
        default=None,
        gt=0,
        le=86_400,
        description="Seconds that may be spent on timing smaller models before anything is removed; 90 if absent. Less "
        "where less tells how much has to go.",
    )

    @model_validator(mode="after")
    def _one_of(self) -> Target:
        require_one(self, FIGURES, " and ".join(f"`{name}`" for name in FIGURES))
        return self

    @model_validator(mode="after")
    def _measured_in_a_cell(self) -> Target:
        """Sizes have no cell and are not timed, and memory is measured in the first cell alone."""
        given = next((name for name in CELL if getattr(self, name) is not None), None)
        if given is not None and self.figure not in IN_CELLS:
            raise PydanticCustomError(
                "target_without_cell",
                "`{field}` is for targets of speed, and `{figure}` is none",
                {"field": given, "figure": self.figure, "expected": f"no `{given}`, or one of {', '.join(IN_CELLS)}"},
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

    @property
    def share(self) -> bool:
        """Whether it is a part of what the original has."""
        return self.figure in SIZES and self.value < 1

    @property
    def measured(self) -> bool:
        """Whether it takes measuring to know how many blocks have to go."""
        return self.figure not in COUNTED

    @property
    def least(self) -> bool:
        """Whether the figure is to be no less, and not to be no more."""
        return self.figure in LEAST


COUNTED = ("parameters", "bytes")
SIZES = (*COUNTED, "memory")  # below 1 a share
IN_CELLS = ("speedup", "latency_ms", "tokens_per_second")  # measured in one cell of the latency grid
LEAST = ("speedup", "tokens_per_second")
CELL = ("batch_size", "output_tokens", "plan_seconds")  # how speed is measured
FIGURES = tuple(name for name in Target.model_fields if name not in CELL)
