"""Options of the GGUF file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from secateur.contract.options.quantise.variants import VariantOptions

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
