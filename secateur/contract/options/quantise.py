"""The options of each way to quantise the final model, one object of the spec's `quantise` list each.

Quantising comes last and changes no shape that pruning left: each object makes one more variant of the final model,
measured like the others. Its name is the final variant's with `variant` behind it: "recovered-int8".
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from secateur.contract.options.methods import Calibration, Options

GROUP_SIZES = Literal[16, 32, 64, 128, 256]
GGUF_TYPES = Literal["F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0"]


class Int8Quantisation(Options):
    """Weights of the blocks' linear layers in 8 bits; activations and embeddings stay as they are."""

    kind: Literal["int8"]
    group_size: GROUP_SIZES | None = Field(
        default=None, description="Weights that share a scale; a whole row if absent, which is usual for 8 bits."
    )

    @property
    def variant(self) -> str:
        return "int8" if self.group_size is None else f"int8-g{self.group_size}"


class Int4Quantisation(Options):
    """Weights of the blocks' linear layers in 4 bits; activations and embeddings stay as they are."""

    kind: Literal["int4"]
    group_size: GROUP_SIZES = Field(
        default=32, description="Weights that share a scale: smaller groups are more exact, and cost more bytes."
    )

    @property
    def variant(self) -> str:
        return "int4" if self.group_size == 32 else f"int4-g{self.group_size}"


class GptqCalibration(Calibration):
    """The text whose outputs the rounding keeps."""

    samples: int = Field(default=64, ge=1, le=100_000, description="Samples of the calibration batch.")
    tokens: int = Field(default=256, ge=8, le=131_072, description="Tokens per sample.")


class GptqQuantisation(Options):
    """Integers chosen so that each layer's outputs change least on a text; the format is that of int8 and int4."""

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


class GgufQuantisation(Options):
    """One file for llama.cpp, tokenizer included."""

    kind: Literal["gguf"]
    type: GGUF_TYPES = Field(default="Q8_0", description="Type of the matrices; norms and biases stay float32.")

    @property
    def variant(self) -> str:
        return f"gguf-{self.type.lower()}"


Quantisation = Annotated[
    Int8Quantisation | Int4Quantisation | GptqQuantisation | GgufQuantisation, Field(discriminator="kind")
]
