"""One answer to one prompt, told piece by piece as it is written, with the time that its tokens took.

The text so far is decoded whole each time, since what a token adds to a text depends on those before it; a piece that
ends within a character waits for the rest of it. Telling is not writing: the time that it takes is left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from secateur.contract.errors import StageFailed
from workers.engine.benchmarks.continuations import continuations, likeliest
from workers.engine.model.generation import derive_seed

TELL_SECONDS = 0.1  # between two pieces
_UNFINISHED = "\ufffd"  # as which the beginning of a character is decoded

Tell = Callable[[str, int], None]  # the next piece, and how many tokens there are with it


@dataclass(frozen=True)
class Answer:
    """What a model has written."""

    text: str
    tokens: int
    first_token_seconds: float | None
    tokens_per_second: float | None  # after the first token; None where there were none
    ended: Literal["end", "length", "time"]


@dataclass
class _Writing:
    """An answer that is being written."""

    tokenizer: PreTrainedTokenizerBase
    tell: Tell
    seconds: float
    began: float = field(default_factory=time.perf_counter)
    telling: float = 0.0  # seconds that were spent on it
    moments: list[float] = field(default_factory=list)  # of each token, since `began`
    told: int = 0  # characters
    told_at: float = 0.0
    out_of_time: bool = False

    def __call__(self, new: list[int]) -> bool:
        """Take the tokens so far; whether that is all there is time for."""
        now = time.perf_counter()
        self.moments.append(now - self.began - self.telling)
        if now - self.told_at >= TELL_SECONDS:
            self.pass_on(new)
            self.told_at = time.perf_counter()
            self.telling += self.told_at - now
        self.out_of_time = self.moments[-1] >= self.seconds
        return self.out_of_time

    def pass_on(self, new: list[int], *, whole: bool = False) -> str:
        """Tell what has come since; the text so far."""
        text = cast(str, self.tokenizer.decode(new, skip_special_tokens=True)) if new else ""
        ready = text if whole else text.rstrip(_UNFINISHED)
        if len(ready) > self.told or whole:
            self.tell(ready[self.told :], len(new))
            self.told = len(ready)
        return text


def answer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: np.ndarray[tuple[int], np.dtype[np.int64]],
    *,
    most: int,
    temperature: float,
    seed: int,
    seconds: float,
    tell: Tell,
) -> Answer:
    """Answer a prompt until an end-of-text token, `most` tokens or `seconds` after the start.

    Args:
        prompt: (tokens,), at least one.
        temperature: 0 takes the likeliest token; else tokens are drawn.

    Raises:
        StageFailed: the model's logits are not finite.
    """
    device = next(model.parameters()).device
    generator = torch.Generator(device=device).manual_seed(derive_seed(seed, "answer"))

    def choose(logits: Tensor) -> Tensor:
        if not bool(torch.isfinite(logits).all()):
            raise StageFailed("The model's logits are not finite, so it has no next token.")
        if temperature == 0:
            return likeliest(logits)
        return torch.multinomial((logits.float() / temperature).softmax(-1), 1, generator=generator)

    writing = _Writing(tokenizer, tell, seconds)
    ids = torch.from_numpy(prompt.copy())[None]  # (1, tokens)
    (new,) = continuations(model, ids, most=most, choose=choose, ended=writing)
    moments = writing.moments
    after_first = moments[-1] - moments[0] if len(moments) > 1 else 0.0
    return Answer(
        text=writing.pass_on(new, whole=True),
        tokens=len(new),
        first_token_seconds=moments[0] if moments else None,
        tokens_per_second=(len(moments) - 1) / after_first if after_first > 0 else None,
        ended="time" if writing.out_of_time else "length" if len(new) >= most else "end",
    )
