"""The largest batch that a GPU's memory holds: sequences that can be generated at a time without running out.

The size is doubled until a generation no longer fits, then halved in on. Each try is a whole generation, since the peak
comes with the last token. On a CPU memory that runs out ends the process or swaps, so there is nothing to try there.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from transformers import PreTrainedModel

from workers.engine.benchmarks.clock import clock_for
from workers.engine.benchmarks.decoding import decode, random_prompt
from workers.engine.model.loading import free_memory

MOST = 65_536  # sequences; no card in sight holds more


def largest_that_fits(fits: Callable[[int], bool], *, most: int = MOST) -> int:
    """The largest size for which `fits` holds, by doubling and then bisection; 0 where not even 1 does."""
    if not fits(1):
        return 0
    low, high = 1, 2
    while high < most and fits(high):
        low, high = high, 2 * high
    if high >= most:
        if fits(most):
            return most
        high = most
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            low = middle
        else:
            high = middle
    return low


def largest_batch(model: PreTrainedModel, *, input_tokens: int, output_tokens: int, seed: int) -> int:
    """Sequences of `input_tokens` that can grow by `output_tokens` at a time. No other model should be in memory."""

    def fits(sequences: int) -> bool:
        try:
            prompt = random_prompt(model, sequences=sequences, tokens=input_tokens, seed=seed)
            decode(model, prompt, output_tokens, clock_for(prompt.device))
        except torch.OutOfMemoryError:
            return False
        finally:
            free_memory()
        return True

    return largest_that_fits(fits)
