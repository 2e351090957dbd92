"""Continuations of the same prompts with the same seed by every variant: to read, with how much they repeat themselves.

The repetition of a text is the share of its 4-grams of tokens that stood in it before: 1 - different ones / all
(Welleck et al. 2019, seq-rep-4, arXiv 1908.04319). A model that has lost its way falls into loops, which perplexity on
given text does not show.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from secateur.contract.measurements import Sample, SampleFigures
from secateur.contract.options.benchmark import GRAM
from workers.engine.benchmarks.continuations import continuations, likeliest
from workers.engine.benchmarks.statistics import mean_interval
from workers.engine.model.generation import derive_seed
from workers.engine.progress import Progress, no_progress
from workers.engine.text.prompts import Prompts


def write_samples(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Prompts,
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    progress: Progress = no_progress,
) -> list[Sample]:
    """One continuation per prompt, until an end-of-text token or `max_new_tokens`.

    Args:
        temperature: 0 takes the likeliest token; else tokens are drawn, prompt by prompt from streams of their own.
    """
    device = next(model.parameters()).device
    found = []
    for number, (prompt, given) in enumerate(zip(prompts.texts, prompts.ids, strict=True)):
        generator = torch.Generator(device=device).manual_seed(derive_seed(seed, "samples", number))

        def drawn(logits: Tensor, generator: torch.Generator = generator) -> Tensor:
            return torch.multinomial((logits.float() / temperature).softmax(-1), 1, generator=generator)

        ids = torch.from_numpy(given.copy())[None]  # (1, tokens)
        new: list[int] = []
        if ids.numel():  # without a beginning-of-text token there is nothing after which an empty prompt goes on
            choose = likeliest if temperature == 0 else drawn
            (new,) = continuations(model, ids, most=max_new_tokens, choose=choose)
        text = cast(str, tokenizer.decode(new, skip_special_tokens=True)) if new else ""
        found.append(Sample(prompt=prompt, text=text, tokens=len(new), repetition=repetition(new), chat=prompts.chat))
        progress(number + 1, len(prompts.ids), "samples")
    return found


def repetition(tokens: Sequence[int]) -> float | None:
    """The share of 4-grams that stood in the text before; None of a text that has none."""
    grams = [tuple(tokens[start : start + GRAM]) for start in range(len(tokens) - GRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else None


def sample_figures(samples: Sequence[Sample]) -> SampleFigures | None:
    """Means over the samples, with their intervals; None where there are no samples.

    A sample of fewer than four tokens has no repetition, and that of the others is the figure.
    """
    lengths = [float(sample.tokens) for sample in samples if sample.tokens is not None]
    if not lengths:
        return None
    length, shortest, longest = mean_interval(lengths)
    shares = [sample.repetition for sample in samples if sample.repetition is not None]
    mean, low, high = mean_interval(shares) if shares else (None, None, None)
    return SampleFigures(
        samples=len(lengths),
        chat=any(sample.chat for sample in samples),
        tokens=length,
        tokens_low=shortest,
        tokens_high=longest,
        repetition=mean,
        repetition_low=low,
        repetition_high=high,
    )
