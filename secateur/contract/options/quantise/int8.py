"""Options of 8-bit weights."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from secateur.contract.options.quantise.variants import GROUP_SIZES, IntegerOptions


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
