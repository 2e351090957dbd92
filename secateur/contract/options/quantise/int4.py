"""Options of 4-bit weights."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from secateur.contract.options.quantise.variants import GROUP_SIZES, IntegerOptions


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
