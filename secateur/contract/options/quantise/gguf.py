"""Options of the GGUF file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from secateur.contract.options.quantise.variants import VariantOptions

GGUF_TYPES = Literal["F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0"]


class GgufQuantisation(VariantOptions):
    """One file for llama.cpp, tokenizer included."""

    title = "GGUF file"
    summary = "One file for llama.cpp with weights and tokenizer, the matrices in the block type that is named."
    paper = "Gerganov et al. 2023, GGUF, github.com/ggml-org/ggml/blob/master/docs/gguf.md"

    kind: Literal["gguf"]
    type: GGUF_TYPES = Field(default="Q8_0", description="Type of the matrices; norms and biases stay float32.")

    @property
    def variant(self) -> str:
        return f"gguf-{self.type.lower()}"

    @property
    def path(self) -> str:
        return f"{self.variant}/model-{self.type}.gguf"
