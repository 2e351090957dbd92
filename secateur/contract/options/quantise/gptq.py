"""Options of GPTQ."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from secateur.contract.options.quantise.variants import GROUP_SIZES, IntegerOptions
from secateur.contract.options.texts import Calibration


class GptqCalibration(Calibration):
    """The text whose outputs the rounding keeps."""

    samples: int = Field(default=64, ge=1, le=100_000, description="Samples of the calibration batch.")
    tokens: int = Field(default=256, ge=8, le=131_072, description="Tokens per sample.")


class GptqQuantisation(IntegerOptions):
    """Integers chosen so that each layer's outputs change least on a text; the format is that of int8 and int4."""

    title = "GPTQ"
    summary = (
        "The format of int4 or int8, with integers chosen so that the outputs of each layer change least on a text. "
        "Loses less than rounding to nearest, for one more walk over the blocks."
    )
    paper = "Frantar et al. 2022, GPTQ, arXiv 2210.17323"

    kind: Literal["gptq"]
    bits: Literal[4, 8] = Field(default=4, description="Bits of a weight.")
    group_size: GROUP_SIZES = Field(
        default=32, description="Weights that share a scale: smaller groups are more exact, and cost more bytes."
    )
    dampening: float = Field(
        default=0.01,
        gt=0,
        le=1,
        description="Added to the diagonal of the inputs' second moments, as a fraction of its mean.",
    )
    calibration: GptqCalibration = Field(default_factory=GptqCalibration)

    @property
    def variant(self) -> str:
        bits = "gptq" if self.bits == 4 else f"gptq-{self.bits}bit"
        return bits if self.group_size == 32 else f"{bits}-g{self.group_size}"
