"""The gates that a job may set, and the metric that each holds to its limit.

To add one: a field, `min_…` or `max_…`, and its row in `GATES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from secateur.contract.draft_metrics import DRAFT_ACCEPTANCE, DRAFT_EQUAL, DRAFT_SPEEDUP
from secateur.contract.metric_row import Metric
from secateur.contract.metrics import (
    ACCURACY,
    BITS_PER_BYTE,
    EXACT_MATCH,
    KL,
    LLAMA_CPP_SPEEDUP,
    PARAMETERS,
    PERPLEXITY,
    REPETITION,
    SAME_TEXT,
    SAMPLE_LENGTH,
    SPEEDUP,
    TOP1_AGREEMENT,
    VLLM_SPEEDUP,
    WEIGHTS_ON_DISK,
)
from secateur.contract.options.method import Options


class Gates(Options):
    """Limits that the result must keep; a gate that is absent is not judged."""

    judge: Literal["interval", "median"] = Field(
        default="interval",
        description="What is held to the limits: the worse end of a figure's 95 % interval, so that noise passes no "
        "gate, or the figure itself (a median or a mean). Sizes are counted and have no interval.",
    )
    min_speedup: float | None = Field(
        default=None,
        gt=0,
        description="Least speedup in generation over the original by transformers, first latency cell.",
    )
    min_llama_cpp_speedup: float | None = Field(
        default=None, gt=0, description="Least speedup of the GGUF file under llama.cpp, first cell."
    )
    min_vllm_speedup: float | None = Field(
        default=None, gt=0, description="Least speedup under vLLM, first latency cell."
    )
    max_perplexity_ratio: float | None = Field(
        default=None, gt=0, description="Greatest perplexity over the original's, worst text."
    )
    max_bits_per_byte_rise: float | None = Field(
        default=None,
        ge=0,
        description="Greatest rise of bits per byte over the original's, worst text; where tokens were removed.",
    )
    max_kl: float | None = Field(
        default=None,
        ge=0,
        description="Greatest mean KL divergence from the original, nats per token, worst text.",
    )
    min_top1_agreement: float | None = Field(
        default=None, ge=0, le=1, description="Least top-1 agreement with the original, worst text."
    )
    max_accuracy_drop: float | None = Field(
        default=None, ge=0, le=1, description="Greatest loss of accuracy against the original, mean over the tasks."
    )
    max_exact_match_drop: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Greatest loss of exact match against the original, over all prompts of the generation checks.",
    )
    min_same_text: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Least share of answers that are the original's own, over all prompts of the generation checks.",
    )
    max_repetition: float | None = Field(
        default=None, ge=0, le=1, description="Greatest share of repeated 4-grams, mean over the generated samples."
    )
    min_sample_length: float | None = Field(
        default=None, gt=0, description="Least length of the generated samples in tokens, their mean."
    )
    min_draft_speedup: float | None = Field(
        default=None, gt=0, description="Least speedup of the target with the draft over the target alone."
    )
    min_draft_acceptance: float | None = Field(
        default=None, ge=0, le=1, description="Least share of the draft's tokens that the target accepts."
    )
    min_draft_equal: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Least share of prompts that are continued with the draft as by the target alone, token by token.",
    )
    max_parameters: int | None = Field(default=None, gt=0, description="Greatest number of parameters.")
    max_bytes: int | None = Field(default=None, gt=0, description="Greatest size of the weights on disk.")


GATES: Mapping[str, Metric] = {
    "min_speedup": SPEEDUP,
    "min_llama_cpp_speedup": LLAMA_CPP_SPEEDUP,
    "min_vllm_speedup": VLLM_SPEEDUP,
    "max_perplexity_ratio": PERPLEXITY,
    "max_bits_per_byte_rise": BITS_PER_BYTE,
    "max_kl": KL,
    "min_top1_agreement": TOP1_AGREEMENT,
    "max_accuracy_drop": ACCURACY,
    "max_exact_match_drop": EXACT_MATCH,
    "min_same_text": SAME_TEXT,
    "max_repetition": REPETITION,
    "min_sample_length": SAMPLE_LENGTH,
    "min_draft_speedup": DRAFT_SPEEDUP,
    "min_draft_acceptance": DRAFT_ACCEPTANCE,
    "min_draft_equal": DRAFT_EQUAL,
    "max_parameters": PARAMETERS,
    "max_bytes": WEIGHTS_ON_DISK,
}


def is_least(gate: str) -> bool:
    """Whether this gate's limit is the least allowed value, and not the greatest."""
    return gate.startswith("min_")
