"""The options of every benchmark that a job may name, with the paper's defaults."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from secateur.contract.options.methods import BOS, Bos, Options, SelfText, Text


class LatencyBenchmark(Options):
    """The paper's protocol: 12 tokens in, 128 out, batch 1, 10 warm-up and 20 timed runs."""

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


class PerplexityBenchmark(Options):
    """Windows of a text; the paper's are of 128 tokens and do not overlap."""

    texts: tuple[Text, ...] = Field(
        default_factory=lambda: (SelfText(),), min_length=1, description="Texts to measure on, each by itself."
    )
    tokens: int = Field(default=128, ge=8, le=131_072, description="Tokens per window.")
    windows: int = Field(default=40, ge=1, le=1_000_000, description="At most this many windows per text.")
    stride: int | None = Field(
        default=None,
        ge=1,
        description="Tokens between the starts of windows; less than `tokens` gives each token more context, and only "
        "those that no window before has predicted count. No overlap if absent.",
    )
    bos: Bos = BOS

    @model_validator(mode="after")
    def _windows_of_a_text(self) -> PerplexityBenchmark:
        if self.stride is None:
            return self
        if self.stride >= self.tokens:
            raise PydanticCustomError(
                "stride_too_long",
                "`stride` ({stride}) must be below `tokens` ({tokens})",
                {"stride": self.stride, "tokens": self.tokens, "expected": f"at most {self.tokens - 1}, or none"},
            )
        if any(isinstance(text, SelfText) for text in self.texts):
            raise PydanticCustomError(
                "stride_of_samples",
                "`stride` needs a text that goes on from window to window; generated samples do not",
                {"expected": "no `stride`, or texts from the hub or from files"},
            )
        return self


class FidelityBenchmark(Options):
    """On the same windows as `perplexity`."""

    enabled: bool = Field(default=True, description="Measure the fidelity to the original.")


class SamplesBenchmark(Options):
    prompts: tuple[str, ...] = Field(
        default=(
            "The history of the city begins",
            "In a large pot, heat the oil and",
            "The experiment showed that",
            "She opened the letter and read:",
            "To install the software, first",
        ),
        max_length=50,
        description="What the variants continue.",
    )
    max_new_tokens: int = Field(default=48, ge=1, le=4096, description="Tokens of each continuation.")
    temperature: float = Field(default=0.7, ge=0, le=5, description="Sampling temperature; 0 is greedy.")


class TasksBenchmark(Options):
    """Zero-shot tasks by lm-evaluation-harness; the paper's seven of common sense unless others are named."""

    tasks: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = Field(
        default=("boolq", "piqa", "hellaswag", "winogrande", "arc_easy", "arc_challenge", "openbookqa"),
        min_length=1,
        max_length=100,
        description="Names of the harness's tasks, or of those in `folder`.",
    )
    limit: int | None = Field(default=None, ge=1, description="Only the first so many items of each task.")
    few_shot: int | None = Field(
        default=None, ge=0, le=100, description="Worked examples before each item; as the task has it if absent."
    )
    batch_size: int = Field(default=8, ge=1, le=4096, description="Requests per forward pass.")
    folder: str | None = Field(
        default=None,
        min_length=1,
        description="A folder of the harness's YAML files under one of the service's data roots. They may not call "
        "code, and their data files are taken relative to them.",
        examples=["tasks"],
    )
