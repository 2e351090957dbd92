"""Options of the measurement of latency and throughput."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from secateur.contract.options.method import Method
from secateur.contract.options.papers import SHORTENED_LLAMA


class LatencyBenchmark(Method):
    """The paper's protocol: 12 tokens in, 128 out, batch 1, 10 warm-up and 20 timed runs."""

    title = "Latency and throughput"
    summary = (
        "Seconds per generation of fixed length, original and variants in turn, with the bootstrap interval of the "
        "ratio."
    )
    paper = SHORTENED_LLAMA

    batch_sizes: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
        default=(1,), min_length=1, description="Sequences generated at a time; each size is measured."
    )
    input_tokens: int = Field(default=12, ge=1, le=131_072, description="Tokens of the prompt.")
    output_tokens: tuple[Annotated[int, Field(ge=2, le=131_072)], ...] = Field(
        default=(128,), min_length=1, description="Tokens to generate; each length is measured."
    )
    warmup: int = Field(default=10, ge=0, le=1000, description="Generations before the timing.")
    runs: int = Field(default=20, ge=3, le=10_000, description="Timed generations of each variant.")
    compile: bool = Field(
        default=False,
        description="Run every variant through torch.compile after its first token. Needs `static_cache`, and a C++ "
        "compiler on a CPU.",
    )
    static_cache: bool = Field(
        default=False, description="Give every variant a key-value cache of full size, filled in place."
    )
    largest_batch: bool = Field(
        default=False, description="Find the largest batch that fits into a GPU's memory, for each variant."
    )

    @model_validator(mode="after")
    def _compiled_shapes_stay(self) -> LatencyBenchmark:
        if self.compile and not self.static_cache:
            raise PydanticCustomError(
                "compile_without_static_cache",
                "`compile` needs `static_cache`: a cache that grows gives each token another shape to compile for",
                {"field": "static_cache", "expected": "`static_cache`: true"},
            )
        return self
