"""The section `quantise` of a spec: the ways to quantise the final model, with their options, and the table of them.

A way is a class here and a line in `Quantisation`, at the end. What it runs is its row in `workers/stages/quantise.py`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from secateur.contract.options.method import Method
from secateur.contract.options.texts import Calibration

GROUP_SIZES = Literal[16, 32, 64, 128, 256]


class VariantOptions(Method):
    """Each way makes one more variant of the final model, whose name ends in `variant`: "recovered-int8"."""

    kind: str

    @property
    def variant(self) -> str:
        """The end of the variant's name, which tells it from others of one job."""
        raise NotImplementedError

    @property
    def path(self) -> str:
        """Where it lies in the stage's folder: a checkpoint folder, or a file."""
        return f"{self.variant}/checkpoint"


class IntegerOptions(VariantOptions):
    """Ways that give integers with a scale for each group of weights."""

    group_size: int | None


class Int8Quantisation(IntegerOptions):
    """Weights of the blocks' linear layers in 8 bits; activations and embeddings stay as they are."""

    title = "8-bit weights"
    summary = (
        "Weights of the blocks' linear layers as 8-bit integers with a scale per row, in a safetensors checkpoint that "
        "transformers and vLLM load. Close to no loss."
    )
    paper = "Dettmers et al. 2022, LLM.int8(), arXiv 2208.07339; weights alone, rounded to nearest"

    kind: Literal["int8"]
    group_size: GROUP_SIZES | None = Field(
        default=None, description="Weights that share a scale; a whole row if absent, which is usual for 8 bits."
    )
    bits: ClassVar[int] = 8

    @property
    def variant(self) -> str:
        return "int8" if self.group_size is None else f"int8-g{self.group_size}"


class Int4Quantisation(IntegerOptions):
    """Weights of the blocks' linear layers in 4 bits; activations and embeddings stay as they are."""

    title = "4-bit weights"
    summary = (
        "The same with 4-bit integers and a scale per group of weights. Half of the bytes of int8, and a loss that "
        "small models feel."
    )
    paper = "Frantar et al. 2022, GPTQ, arXiv 2210.17323, its round-to-nearest baseline with groups"

    kind: Literal["int4"]
    group_size: GROUP_SIZES = Field(
        default=32, description="Weights that share a scale: smaller groups are more exact, and cost more bytes."
    )
    bits: ClassVar[int] = 4

    @property
    def variant(self) -> str:
        return "int4" if self.group_size == 32 else f"int4-g{self.group_size}"


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


# Kinds of files as llama.cpp names them, the finest first; those of K types mix several, as its own quantiser does.
GGUF_TYPES = Literal[
    "F16",
    "BF16",
    "Q8_0",
    "Q6_K",
    "Q5_K_M",
    "Q5_K_S",
    "Q5_1",
    "Q5_0",
    "Q4_K_M",
    "Q4_K_S",
    "Q4_1",
    "Q4_0",
    "Q3_K_M",
    "Q3_K_S",
    "Q2_K",
]


class GgufQuantisation(VariantOptions):
    """One file for llama.cpp, tokenizer included."""

    title = "GGUF file"
    summary = (
        "One file for llama.cpp with weights and tokenizer, the matrices in the type that is named, "
        "or in llama.cpp's mix of types (Q4_K_M and its like)."
    )
    paper = "Gerganov et al. 2023, GGUF, github.com/ggml-org/ggml/blob/master/docs/gguf.md"

    kind: Literal["gguf"]
    type: GGUF_TYPES = Field(
        default="Q8_0", description="Type or mix of the matrices, by llama.cpp's name; norms and biases stay float32."
    )

    @property
    def variant(self) -> str:
        return f"gguf-{self.type.lower()}"

    @property
    def path(self) -> str:
        return f"{self.variant}/model-{self.type}.gguf"


# The table of ways to quantise.
Quantisation = Annotated[
    Int8Quantisation  #
    | Int4Quantisation
    | GptqQuantisation
    | GgufQuantisation,
    Field(discriminator="kind"),
]
