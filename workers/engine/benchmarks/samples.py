"""Continuations of the same prompts with the same seed by every variant: to read, not to count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from secateur.contract.results import Sample
from workers.engine.model.generation import derive_seed
from workers.engine.model.loading import next_logits
from workers.engine.progress import Progress, no_progress
from workers.engine.text.encoding import BoundedEncoder


def write_samples(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    progress: Progress = no_progress,
) -> list[Sample]:
    """One continuation per prompt, until an end-of-text token or `max_new_tokens`.

    Args:
        temperature: 0 takes the likeliest token; else tokens are drawn, prompt by prompt from streams of their own.

    Raises:
        InvalidInput: the tokenizer cannot take a prompt, or not in a time that its length allows.
    """
    with BoundedEncoder(tokenizer) as encoder:
        encoded = [encoder.ids(prompt, special=True) for prompt in prompts]
    found = []
    for number, (prompt, given) in enumerate(zip(prompts, encoded, strict=True)):
        ids = torch.from_numpy(given.copy())[None]  # (1, tokens)
        if ids.numel() == 0:  # an empty prompt and no beginning-of-text token: nothing to continue
            found.append(Sample(prompt=prompt, text=""))
            continue
        new = _continue(model, ids, max_new_tokens, temperature, derive_seed(seed, "samples", number))
        found.append(Sample(prompt=prompt, text=cast(str, tokenizer.decode(new, skip_special_tokens=True))))
        progress(number + 1, len(prompts), "samples")
    return found


@torch.inference_mode()
def _continue(model: PreTrainedModel, ids: Tensor, most: int, temperature: float, seed: int) -> list[int]:
    device = next(model.parameters()).device
    generator = torch.Generator(device=device).manual_seed(seed)
    stops = _stop_tokens(model)
    new: list[int] = []
    token, cache = ids.to(device), None
    while len(new) < most:
        logits, cache = next_logits(model, token, cache)
        if temperature == 0:
            token = logits.argmax(-1, keepdim=True)
        else:
            token = torch.multinomial((logits.float() / temperature).softmax(-1), 1, generator=generator)
        if int(token) in stops:
            break
        new.append(int(token))
    return new


def _stop_tokens(model: PreTrainedModel) -> set[int]:
    settings = model.generation_config
    stops = settings.eos_token_id if settings is not None else model.config.eos_token_id
    given = stops if isinstance(stops, list | tuple) else [stops]
    return {token for token in given if type(token) is int}  # a stranger's file may hold anything
