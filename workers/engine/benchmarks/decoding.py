"""Greedy generation of a fixed length: what is timed, and what memory is measured on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel

from workers.engine.benchmarks.clock import Clock
from workers.engine.model.loading import next_logits


@torch.inference_mode()
def decode(
    model: PreTrainedModel, prompt: Tensor, tokens: int, clock: Clock, *, step: Any = None, cache: Cache | None = None
) -> Cache:
    """Generate `tokens` tokens after `prompt`, (sequences, tokens), whatever they are.

    The likeliest token is taken each time and an end-of-text token stops nothing, so every model does the same
    work. `clock` is told when the first token and the last one are there. Nothing waits for the device in between.

    Args:
        step: what the tokens after the first go through, such as the compiled model; the model itself if absent.
            It is never asked whether it is true: of a compiled model that is a question for its length.
        cache: an empty one to fill; by default the model makes one that grows.

    Returns:
        The cache, with the prompt and all but the last of the generated tokens.
    """
    step = model if step is None else step
    clock.start()
    logits, filled = next_logits(model, prompt, cache)
    token = logits.argmax(-1, keepdim=True)
    clock.first()
    for _ in range(tokens - 1):
        logits, filled = next_logits(step, token, filled)
        token = logits.argmax(-1, keepdim=True)
    clock.stop()
    return filled


def random_prompt(model: PreTrainedModel, *, sequences: int, tokens: int, seed: int) -> Tensor:
    """Random token ids, (sequences, tokens), on the model's device."""
    generator = torch.Generator().manual_seed(seed)
    device = next(model.parameters()).device
    return torch.randint(int(model.config.vocab_size), (sequences, tokens), generator=generator).to(device)
