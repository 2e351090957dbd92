"""What a model writes after prompts of one length, until an end-of-text token or for so many tokens."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel

from workers.engine.model.generation import stop_tokens
from workers.engine.model.loading import next_logits


def likeliest(logits: Tensor) -> Tensor:
    """The token of each row, (rows, vocabulary) → (rows, 1): greedy decoding."""
    return logits.argmax(-1, keepdim=True)


def unended(new: list[int]) -> bool:
    """Nothing but an end-of-text token ends a text."""
    return False


@torch.inference_mode()
def continuations(
    model: PreTrainedModel,
    ids: Tensor,
    *,
    most: int,
    choose: Callable[[Tensor], Tensor] = likeliest,
    ended: Callable[[list[int]], bool] = unended,
) -> list[list[int]]:
    """The new tokens of each row, the end-of-text token left out.

    Rows are of one length, so that nothing has to be padded and each is continued as it would be alone, but for
    rounding. A row that has ended is carried along until the last has.

    Args:
        ids: (rows, tokens).
        choose: the next token of each row, by (rows, vocabulary) of logits.
        ended: whether a row's new tokens so far are all that is wanted.
    """
    device = next(model.parameters()).device
    stops = stop_tokens(model)
    new: list[list[int]] = [[] for _ in ids]
    open_rows = set(range(len(ids)))
    token, cache = ids.to(device), None
    filled: Cache | None = cache
    for _ in range(most):
        logits, filled = next_logits(model, token, filled)
        token = choose(logits)
        for row, chosen in enumerate(token[:, 0].tolist()):
            if row not in open_rows:
                continue
            if chosen in stops:
                open_rows.discard(row)
                continue
            new[row].append(chosen)
            if ended(new[row]):
                open_rows.discard(row)
        if not open_rows:
            break
    return new
