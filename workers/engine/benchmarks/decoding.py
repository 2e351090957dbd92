"""Greedy generation of a fixed length: what is timed, and what memory is measured on."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel

from workers.engine.benchmarks.clock import Clock
from workers.engine.models import next_logits


@torch.inference_mode()
def decode(model: PreTrainedModel, prompt: Tensor, tokens: int, clock: Clock) -> Cache:
    """Generate `tokens` tokens after `prompt`, (sequences, tokens), whatever they are.

    The likeliest token is taken each time and an end-of-text token stops nothing, so every model does the same
    work. `clock` is told when the first token and the last one are there. Nothing waits for the device in between.

    Returns:
        The cache, with the prompt and all but the last of the generated tokens.
    """
    clock.start()
    logits, cache = next_logits(model, prompt, None)
    token = logits.argmax(-1, keepdim=True)
    clock.first()
    for _ in range(tokens - 1):
        logits, cache = next_logits(model, token, cache)
        token = logits.argmax(-1, keepdim=True)
    clock.stop()
    return cache


def random_prompt(model: PreTrainedModel, *, sequences: int, tokens: int, seed: int) -> Tensor:
    """Random token ids, (sequences, tokens), on the model's device."""
    generator = torch.Generator().manual_seed(seed)
    device = next(model.parameters()).device
    return torch.randint(int(model.config.vocab_size), (sequences, tokens), generator=generator).to(device)
