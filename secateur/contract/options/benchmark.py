"""The section `benchmark` of a spec: what is measured, with its options. Each part has a field of `Benchmark`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from secateur.contract.drafts import MOST_TOKENS
from secateur.contract.options.method import Method, Options
from secateur.contract.options.papers import SHORTENED_LLAMA
from secateur.contract.options.texts import BOS, BlendText, Bos, SelfText, Text, is_written

EngineName = Literal["transformers", "llama_cpp", "vllm"]


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
    engines: tuple[EngineName, ...] | None = Field(
        default=None,
        min_length=1,
        description="By what the models are timed: by transformers, llama.cpp (their GGUF files, one sequence at a "
        "time) or vLLM. By transformers and whatever else the worker has if absent; one that is named and not there "
        "is refused before anything is computed.",
    )

    def times_by(self, engine: EngineName) -> bool:
        """Whether models are to be timed by this engine, where it is installed."""
        return self.engines is None or engine in self.engines

    @model_validator(mode="after")
    def _compiled_shapes_stay(self) -> LatencyBenchmark:
        if self.compile and not self.static_cache:
            raise PydanticCustomError(
                "compile_without_static_cache",
                "`compile` needs `static_cache`: a cache that grows gives each token another shape to compile for",
                {"field": "static_cache", "expected": "`static_cache`: true"},
            )
        return self


class PerplexityBenchmark(Method):
    """Windows of a text; the paper's are of 128 tokens and do not overlap."""

    title = "Perplexity"
    summary = "exp of the mean next-token loss on held-out text, over non-overlapping windows."
    paper = SHORTENED_LLAMA

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
        if any(is_written(text) or isinstance(text, BlendText) for text in self.texts):
            raise PydanticCustomError(
                "stride_of_samples",
                "`stride` needs a text that goes on from window to window; neither generated samples nor blends do",
                {"expected": "no `stride`, or texts from the hub or from files"},
            )
        return self


class FidelityBenchmark(Method):
    """On the same windows as `perplexity`."""

    title = "Fidelity to the original"
    summary = (
        "KL divergence of the original's next-token distribution from the variant's, and how often both rank the "
        "same token first."
    )
    paper = "Kullback and Leibler 1951"

    enabled: bool = Field(default=True, description="Measure the fidelity to the original.")


GRAM = 4  # tokens, of those whose repetition is counted


class SamplesBenchmark(Method):
    title = "Generated samples"
    summary = (
        "Continuations of the same prompts with the same seed by every variant, to read, with their length and how "
        "much they repeat themselves."
    )
    paper = SHORTENED_LLAMA

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
    chat: bool = Field(
        default=True,
        description="Put the prompts to a model with a chat template as a user's messages; as plain text otherwise.",
    )
    temperature: float = Field(default=0.7, ge=0, le=5, description="Sampling temperature; 0 is greedy.")


GenerationCheck = Literal["arithmetic", "copying", "format"]


class GenerationBenchmark(Method):
    """A pruned model may still tell the best of four answers and be unable to write one."""

    title = "Generation checks"
    summary = (
        "Short answers that every variant writes greedily: sums, words to copy, a form to keep. How many are right, "
        "and how many are the original's own."
    )
    paper = "Secateur 2026: prompts of its own, drawn from the job's seed"

    checks: tuple[GenerationCheck, ...] = Field(
        default=("arithmetic", "copying", "format"), min_length=1, description="Which checks are made."
    )
    prompts: int = Field(default=16, ge=1, le=1000, description="Prompts of each check.")
    max_new_tokens: int = Field(
        default=32,
        ge=1,
        le=1024,
        description="Tokens of an answer, at most; in no case more than six beyond the right one's.",
    )
    chat: bool = Field(
        default=True, description="Put the prompts to a model with a chat template as a chat; as plain text otherwise."
    )


class DraftBenchmark(Method):
    """Only where the job makes a draft (`use`)."""

    title = "Speculative draft"
    summary = (
        "Greedy generation by the target model with each variant as its draft, against the target alone: acceptance, "
        "cost, tokens per second in pairs, and whether the text stays the target's token by token."
    )
    paper = "Leviathan et al. 2023, arXiv 2211.17192"

    tokens: int = Field(default=5, ge=1, le=MOST_TOKENS, description="Tokens that the draft proposes at a time.")
    prompts: int = Field(
        default=8, ge=2, le=60, description="Prompts that are continued: built-in ones, which no training has."
    )
    max_new_tokens: int = Field(default=64, ge=8, le=4096, description="Tokens of each continuation, at most.")
    runs: int = Field(default=3, ge=1, le=1000, description="Timed generations of each prompt.")
    chat: bool = Field(
        default=True,
        description="Put the prompts to a target with a chat template as a user's messages; as plain text otherwise.",
    )

    @model_validator(mode="after")
    def _proposes_what_is_continued(self) -> DraftBenchmark:
        if self.tokens + 2 > self.max_new_tokens:
            raise PydanticCustomError(
                "draft_too_long",
                "{tokens} tokens at a time are as many as a continuation has, {most}",
                {
                    "tokens": self.tokens,
                    "most": self.max_new_tokens,
                    "field": "tokens",
                    "expected": f"at most {self.max_new_tokens - 2}, or a greater `max_new_tokens`",
                },
            )
        return self


class TasksBenchmark(Method):
    """Zero-shot tasks by lm-evaluation-harness; the paper's seven of common sense unless others are named."""

    title = "Zero-shot tasks"
    summary = (
        "Accuracy on multiple-choice and other tasks of lm-evaluation-harness, with the drop from the original judged "
        "item by item."
    )
    paper = "Gao et al. 2024, lm-evaluation-harness, doi 10.5281/zenodo.12608602"

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


class Benchmark(Options):
    """What is measured on the original and on each variant. `null` leaves a part out."""

    latency: LatencyBenchmark | None = Field(default_factory=LatencyBenchmark)
    perplexity: PerplexityBenchmark | None = Field(default_factory=PerplexityBenchmark)
    fidelity: FidelityBenchmark = Field(default_factory=FidelityBenchmark)
    samples: SamplesBenchmark | None = Field(default_factory=SamplesBenchmark)
    generation: GenerationBenchmark | None = Field(default_factory=GenerationBenchmark)
    tasks: TasksBenchmark | None = None
    draft: DraftBenchmark | None = None
    reuse_original: bool = Field(
        default=True,
        description="Reuse the original's perplexity, samples, answers and tasks of an earlier job, where weights, "
        "machine and settings are the same. Speed, memory and fidelity are measured in every job, reuse or not.",
    )
    reuse_measurements: bool = Field(
        default=False,
        description="Take over every figure of an earlier job that was to do so too, where all models, machine and "
        "settings are the same, as when a sweep is repeated; the report says so. Not with `tasks`, whose data may "
        "change. The points of a sweep do so unless told otherwise.",
    )

    def measures(self, part: str) -> bool:
        """Whether the part of this name is asked for: it is there, and not switched off."""
        options = getattr(self, part)
        return options is not None and getattr(options, "enabled", True)
