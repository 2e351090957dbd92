"""Where a beginning-of-text token stands in the samples of a text: one rule for calibration, training and measuring.

A model whose tokenizer begins every text with such a token has never seen a text without. Samples that are cut out of
a text lack it, and their first tokens are then far from anything that the model knows: on Gemma-3-270M the intact
model's perplexity is 1,033 without and 184 with it, and other blocks seem unimportant. So by default each sample has
it where the tokenizer adds one. It is one of the sample's tokens, so samples are no longer with it than without.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from secateur.contract.errors import InvalidInput
from secateur.contract.options.texts import Bos
from workers.engine.text.token_cache import TokenIds

CUT_AT_ONCE = 4096  # samples


@dataclass(frozen=True)
class Beginning:
    """What samples begin with."""

    where: Literal["each", "first", "none"]  # before each, at the text's start alone, nowhere
    token: int = -1

    @property
    def each(self) -> int | None:
        """The token before each sample."""
        return self.token if self.where == "each" else None

    def said(self) -> str:
        """What a text's description says of it."""
        return ", each after a beginning-of-text token" if self.where == "each" else ""


def beginning_of(asked: Bos, *, adds: bool, token: int | None, rows: int) -> Beginning:
    """What `asked` means for a model.

    Args:
        adds: whether its tokenizer begins a text with the token.
        token: the token's id, of the tokenizer or else the config; None where there is none.
        rows: of the model's embedding.

    Raises:
        InvalidInput: the token is asked for, and the model has none, or no row for it.
    """
    where = asked if asked in ("each", "none") else ("none" if not adds else "first" if asked == "first" else "each")
    if where == "none":
        return Beginning("none")
    if token is None:
        raise InvalidInput.field(
            "bos",
            "The model has no beginning-of-text token.",
            value=asked,
            expected='"auto", "first" or "none"',
        )
    if not 0 <= token < rows:
        raise InvalidInput.field(
            "bos",
            f"The beginning-of-text token has the id {token:,}, and the model's embedding has {rows:,} rows.",
            value=asked,
            expected='"none", or a model whose embedding has a row for it',
        )
    return Beginning("each" if where == "each" else "first", token)


def with_first(ids: TokenIds, token: int) -> Iterator[TokenIds]:
    """The text with the token at its start, unless it stands there already."""
    if not len(ids) or int(ids[0]) != token:
        yield np.array([token], dtype=np.int32)
    yield ids


def count_windows(ids: TokenIds, *, width: int, step: int, bos: int | None) -> int:
    """How many samples there are in a text, of `width` tokens of it each.

    Args:
        step: from one sample's start to the next one's.
        bos: the token that each begins with besides. One that stands in the text just where the last sample starts is
            that token, and the sample needs another one behind.
    """
    count = max(0, (len(ids) - width) // step + 1)
    last = (count - 1) * step
    short = count and bos is not None and int(ids[last]) == bos and last + 1 + width > len(ids)
    return count - 1 if short else count


def cut(ids: TokenIds, starts: Tensor, *, tokens: int, bos: int | None) -> Tensor:
    """Samples of a text: (samples, tokens), int32.

    Args:
        starts: (samples,) where in `ids` each begins.
        bos: the token that each begins with, before `tokens` - 1 of the text. One that stands in the text just there
            is passed over, for which there has to be a token more (`count_windows`).
    """
    text = torch.from_numpy(ids)
    if bos is None:
        return text.unfold(0, tokens, 1)[starts]
    cut_out = text.unfold(0, tokens - 1, 1)[starts + (text[starts] == bos).long()]
    return torch.cat([torch.full((len(cut_out), 1), bos, dtype=text.dtype), cut_out], dim=1)


def cut_all(ids: TokenIds, starts: Tensor, *, tokens: int, bos: int) -> Iterator[TokenIds]:
    """As `cut`, one sample after the other, some thousands at a time: for a text that is longer than memory."""
    for some in torch.split(starts, CUT_AT_ONCE):
        yield cut(ids, some, tokens=tokens, bos=bos).flatten().numpy()
