"""Bits per byte of text, of models that have other tokens: what each pays for the same bytes, in its own tokens.

A loss for a token says nothing where tokens differ: longer ones are harder and there are fewer. The loss of a whole
text over its bytes compares (Gao et al. 2020, The Pile, arXiv 2101.00027, section 3.1). A window's text is cut after
its first word, or after what an overlap has predicted before; each tokenizer reads both parts by themselves, and all
tokens of the second are predicted, given the first. So every model predicts the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from secateur.contract.errors import StageFailed
from secateur.contract.measurements import BitsPerByte
from secateur.contract.results import TextInfo
from workers.engine.benchmarks.statistics import mean_interval
from workers.engine.benchmarks.windows import Windows, last_states
from workers.engine.model.batches import batches
from workers.engine.model.block_model import BlockModel
from workers.engine.progress import Progress, no_progress
from workers.engine.text.tokenizing import BoundedEncoder

_FIRST_WORD = re.compile(r"\s*\S+(?=\s)")
_FIRST_CHARACTERS = 4  # of a text without spaces
_HALF_CHARACTER = "\ufffd"  # of which a window's end has left a part
PROTOCOL = "each window's text after its first word, by the variant's own tokens"


@dataclass(frozen=True)
class Passages:
    """The text of windows, each with what is given before what is predicted."""

    given: tuple[str, ...]
    predicted: tuple[str, ...]
    begins: bool  # whether a beginning-of-text token stands before each
    text: TextInfo

    @property
    def sizes(self) -> list[int]:
        """Bytes that are predicted of each."""
        return [len(part.encode()) for part in self.predicted]


@dataclass(frozen=True)
class Encoded:
    """Passages in the tokens of one model; rows are filled up behind, where nothing counts."""

    ids: Tensor  # (windows, tokens)
    counted: Tensor  # (windows, tokens - 1) of booleans: which predictions are of the passages' second parts

    @property
    def tokens(self) -> int:
        return int(self.counted.sum())


def passages(
    windows: Windows, tokenizer: PreTrainedTokenizerBase, *, bos: int | None, positions: int | None
) -> Passages:
    """The text of the windows.

    Args:
        tokenizer: the original's, whose tokens they are.
        bos: its beginning-of-text token, which is no text.
        positions: tokens that the models hold; of longer windows than two thirds of them no more is taken, since the
            same text takes more tokens of a smaller vocabulary.

    Raises:
        StageFailed: no window has anything behind its first word.
    """
    begins = bos is not None and bool((windows.ids[:, 0] == bos).all())
    found = []
    for row, ids in enumerate(windows.ids.tolist()):
        known = windows.overlap if row and windows.overlap else 0
        start = 1 if begins else 0
        if positions is not None:
            ids = ids[: max(known + 2, positions * 2 // 3)]
        text = _text(tokenizer, ids[start:])
        before = _text(tokenizer, ids[start:known]) if known else ""
        at = len(before) if before and text.startswith(before) else _after_first_word(text)
        if text[at:]:
            found.append((text[:at], text[at:]))
    if not found:
        raise StageFailed(f"The windows of {windows.text.description} have no text behind their first words.")
    given, predicted = zip(*found, strict=True)
    return Passages(given, predicted, begins, windows.text)


def _text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    text = tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return str(text).strip(_HALF_CHARACTER)


def _after_first_word(text: str) -> int:
    found = _FIRST_WORD.match(text)
    return found.end() if found else min(_FIRST_CHARACTERS, len(text) // 2)


def encoded(passages: Passages, tokenizer: PreTrainedTokenizerBase, *, bos: int | None) -> Encoded:
    """The passages in the tokens of this tokenizer.

    Args:
        bos: its beginning-of-text token, which stands first where it does in the windows.

    Raises:
        InvalidInput: it cannot take a passage.
    """
    first = [bos] if passages.begins and bos is not None else []
    rows, starts = [], []
    with BoundedEncoder(tokenizer) as encoder:
        for given, predicted in zip(passages.given, passages.predicted, strict=True):
            before = [*first, *encoder.ids(given).tolist()]
            rows.append([*before, *encoder.ids(predicted).tolist()])
            starts.append(len(before))
    longest = max(map(len, rows))
    ids = torch.zeros((len(rows), longest), dtype=torch.long)
    counted = torch.zeros((len(rows), longest - 1), dtype=torch.bool)
    for number, (row, start) in enumerate(zip(rows, starts, strict=True)):
        ids[number, : len(row)] = torch.tensor(row)
        counted[number, start - 1 : len(row) - 1] = True
    return Encoded(ids, counted)


@torch.no_grad()
def window_bits(model: BlockModel, encoded: Encoded, *, progress: Progress = no_progress) -> Tensor:
    """Bits that each window costs, all its predictions together: (windows,), float64."""
    bits = torch.empty(len(encoded.ids), dtype=torch.float64)
    with model.packed_head():
        for start, piece in batches(encoded.ids):
            span = slice(start, start + len(piece))
            losses = model.head_nll(last_states(model, piece), piece).cpu().double()
            bits[span] = (losses * encoded.counted[span]).sum(1) / log(2)
            progress(start + len(piece), len(bits), "windows")
    return bits


def bits_per_byte(
    bits: Sequence[float], tokens: int, passages: Passages, *, original: Sequence[float] | None = None
) -> BitsPerByte:
    """The figure with its interval, from the bits of each window.

    Args:
        tokens: that were predicted.
        original: the original's bits for the same windows; None for the original itself.

    Raises:
        StageFailed: the bits are not finite.
    """
    sizes = passages.sizes
    values = torch.tensor(bits, dtype=torch.float64) / torch.tensor(sizes, dtype=torch.float64)
    if not torch.isfinite(values).all():
        raise StageFailed(
            f"The loss on {passages.text.description} is not finite: the model's arithmetic overflows in this dtype, "
            'or its weights are broken. Try "dtype": "float32".'
        )
    weights = [float(size) for size in sizes]
    value, low, high = mean_interval(values.tolist(), weights=weights)
    rise: tuple[float | None, float | None, float | None] = (None, None, None)
    if original is not None:
        before = torch.tensor(original, dtype=torch.float64) / torch.tensor(sizes, dtype=torch.float64)
        rise = mean_interval((values - before).tolist(), weights=weights)
    return BitsPerByte(
        text=passages.text,
        protocol=PROTOCOL,
        tokens=tokens,
        bytes=sum(sizes),
        value=value,
        low=low,
        high=high,
        rise=rise[0],
        rise_low=rise[1],
        rise_high=rise[2],
    )
