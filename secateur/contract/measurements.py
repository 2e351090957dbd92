"""What the benchmark stage measures: a Measurement of each variant of the model, each figure with its protocol.

Times are seconds, sizes bytes, losses nats per token; a name that ends in `_estimate` was not measured.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import Field

from secateur.contract.results import Environment, Result, TextInfo

VariantName = str  # "original", "pruned", "recovered", "recovered-int8" …
RECOVERED_FILE: VariantName = "recovered-gguf"  # the recovered model as the GGUF file that is handed out, rounded


class Interval(Result):
    """A median with its 95 % bootstrap interval."""

    median: float
    low: float
    high: float


class LatencyCell(Result):
    """One variant at one batch size and output length."""

    batch_size: int
    input_tokens: int
    output_tokens: int
    runs: int
    seconds: Interval  # of one whole generation
    tokens_per_second: Interval  # batch_size * output_tokens / seconds
    time_to_first_token: Interval
    time_per_output_token: Interval  # of the tokens after the first
    speedup: Interval | None = None  # original's seconds over this variant's, paired runs; None for the original
    noise: float | None = None  # half width of the interval of original against itself (A/A), as a ratio
    compiled: bool = False  # by torch.compile, all variants alike
    static_cache: bool = False


class EngineCell(Result):
    """One variant at one batch size and output length, under an engine that models are deployed with."""

    build: str  # the engine's name and version: "llama-bench, build 5163 (8cf427ff)"
    against: str = ""  # "the original in Q8_0", "the Q4_1 file that came in"; nothing where there is but one
    batch_size: int
    input_tokens: int
    output_tokens: int
    runs: int
    prompt_tokens_per_second: Interval  # until the first token that is generated
    tokens_per_second: Interval  # generated, over the whole generation, as in LatencyCell
    speedup: Interval | None = None  # original's seconds over this variant's, paired runs; None for the original
    noise: float | None = None  # as in LatencyCell


class Memory(Result):
    weights: int  # bytes of parameters and buffers in memory
    peak: int  # greatest memory in use while generating: process RSS on a CPU, allocator's peak on a GPU
    kv_bytes_per_token: int  # of one sequence
    measured_as: str  # "resident set size" or "CUDA allocator"
    largest_batch: int | None = None  # most sequences that were generated at a time without running out; GPUs only


class Perplexity(Result):
    text: TextInfo
    protocol: str  # "windows of 128 tokens, no overlap, BOS on none"
    value: float
    low: float | None = None  # 95 % bootstrap interval over windows; None of a single one
    high: float | None = None
    ratio: float | None = None  # value over the original's, on the same windows; None for the original
    ratio_low: float | None = None  # its 95 % bootstrap interval over windows, which are resampled in pairs
    ratio_high: float | None = None


class Fidelity(Result):
    """Against the original on the same tokens."""

    text: TextInfo
    kl: float  # mean KL(original || variant), nats per token
    kl_low: float | None  # 95 % bootstrap interval over windows; None of a single one
    kl_high: float | None
    top1_agreement: float  # fraction of positions where both rank the same token first
    top1_agreement_low: float | None = None  # likewise
    top1_agreement_high: float | None = None


class BitsPerByte(Result):
    """What perplexity is where two models have other tokens: on the same bytes of text, each in its own tokens."""

    text: TextInfo  # in the original's tokens
    protocol: str
    tokens: int  # that were predicted
    bytes: int  # that these spell, UTF-8: the same for all variants
    value: float  # bits over bytes
    low: float | None = None  # 95 % bootstrap interval over windows; None of a single one
    high: float | None = None
    rise: float | None = None  # value less the original's; None for the original
    rise_low: float | None = None  # its 95 % bootstrap interval over windows, which are resampled in pairs
    rise_high: float | None = None

    @property
    def tokens_per_byte(self) -> float:
        return self.tokens / self.bytes


class Sample(Result):
    prompt: str
    text: str
    tokens: int | None = None  # of the text; None of an older version
    repetition: float | None = None  # share of its 4-grams of tokens that stood in it before; None of a text without
    chat: bool = False  # whether the prompt was put as a chat, by the model's template


class SampleFigures(Result):
    """One variant's samples in figures: means over them, with 95 % bootstrap intervals; none of a single one."""

    samples: int
    chat: bool
    tokens: float
    tokens_low: float | None = None
    tokens_high: float | None = None
    repetition: float | None = None  # of those of four tokens and more
    repetition_low: float | None = None
    repetition_high: float | None = None


class GenerationScore(Result):
    """One variant on one of the built-in checks of generation, or on all together."""

    check: str  # "arithmetic", "copying", "format"; "all" of them
    headline: bool  # whether it is all of them together, which is the figure for gates
    prompts: int
    chat: bool  # whether they were put as chats, by the model's template
    exact: float  # share of answers that are right to the letter
    standard_error: float | None = None  # over prompts
    drop: float | None = None  # the original's share less this one, on the same prompts; None for the original
    drop_low: float | None = None  # its 95 % bootstrap interval over prompts
    drop_high: float | None = None
    p_value: float | None = None  # two-sided, exact McNemar on the prompts that only one of the two got right
    agreement: float | None = None  # share of texts that are the original's to the letter; None for the original
    agreement_low: float | None = None  # its exact 95 % interval (Clopper and Pearson)
    agreement_high: float | None = None


class TaskScore(Result):
    """One variant on one task of lm-evaluation-harness."""

    task: str
    metric: str  # "acc", "acc_norm": the paper's choice for its tasks
    filter: str = "none"  # how the answer is read off what the model wrote: "strict-match"; "none" where as it is
    headline: bool = True  # whether this is the task's figure for gates: that of its first filter
    value: float
    standard_error: float | None = None  # over items
    items: int
    few_shot: int
    version: str  # of the task's definition
    drop: float | None = None  # the original's value less this one, on the same items; None for the original
    drop_low: float | None = None  # its 95 % bootstrap interval over items
    drop_high: float | None = None
    p_value: float | None = None  # two-sided, exact McNemar on the items that only one of the two got right


class DraftDifference(Result):
    """A place at which generation with a draft goes on otherwise than the target does alone."""

    prompt: int  # its number, from 0
    token: int  # of the continuation, from 0
    gap: float  # by which the target prefers its own token, over the largest of its logits there
    rounding: bool  # whether its arithmetic may well turn the two around


class DraftFigures(Result):
    """One variant as the speculative draft of the job's target: greedy generation, one sequence at a time."""

    tokens: int  # that are proposed at a time
    prompts: int
    chat: bool  # whether they were put as chats, by the target's template
    max_new_tokens: int
    runs: int  # of each prompt
    speedup: Interval  # the target's seconds alone over those with the draft, in pairs; median over prompts
    noise: float  # half width of the interval of the target alone against itself, as a ratio
    tokens_per_second: Interval  # with the draft
    target_tokens_per_second: Interval  # of the target alone
    acceptance: float  # share of proposed tokens that are taken, of those before which all were
    acceptance_low: float | None = None  # 95 % bootstrap interval over prompts
    acceptance_high: float | None = None
    tokens_per_pass: float  # that a pass of the target yields
    cost: Interval  # seconds of a token of the draft over the target's
    verification: Interval  # seconds of the target's pass over `tokens` + 1 tokens over those of one
    expected: float  # speedup by the paper's formula from acceptance and cost
    expected_verified: float  # the same with the measured cost of the verification
    equal: int  # prompts that are continued as by the target alone, token by token
    differences: list[DraftDifference] = Field(default_factory=list)


class ReusedFigure(Result):
    """A figure of the original that an earlier job measured on the same weights, machine and settings."""

    figure: str  # "perplexity", "bits per byte", "samples", "generation", "tasks": which was reused
    measured_at: datetime  # when the reused figure was
    job_id: UUID  # of the job whose figure is reused


class Measurement(Result):
    """All that was measured on one variant."""

    variant: VariantName
    parameters: int
    blocks: int
    bytes_on_disk: int
    latency: list[LatencyCell] = Field(default_factory=list)  # by transformers
    llama_cpp: list[EngineCell] = Field(default_factory=list)
    vllm: list[EngineCell] = Field(default_factory=list)
    memory: Memory | None = None
    perplexity: list[Perplexity] = Field(default_factory=list)
    fidelity: list[Fidelity] = Field(default_factory=list)
    bits_per_byte: list[BitsPerByte] = Field(default_factory=list)  # in perplexity's place, where tokens went
    samples: list[Sample] = Field(default_factory=list)
    sampled: SampleFigures | None = None
    generation: list[GenerationScore] = Field(default_factory=list)
    tasks: list[TaskScore] = Field(default_factory=list)
    draft: DraftFigures | None = None  # where the job makes a draft
    reused: list[ReusedFigure] = Field(default_factory=list)


class Benchmarks(Result):
    """The benchmark stage's result: the original first, then its variants."""

    variants: list[Measurement]
    environment: Environment
    seconds: float
    notes: list[str] = Field(default_factory=list)
    job_id: UUID | None = None  # of the job that measured; None of an older version
    measured_at: datetime | None = None
