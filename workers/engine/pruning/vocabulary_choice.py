"""Which tokens of a vocabulary stay: those without which some text could not be written, and what a text uses most.

A token of byte-pair encoding is made by merges, through other tokens on its way. It stays together with them, so that
the merges that are left make it as before: at every step of its making the first merge in the list that can be done is
one that is left, and merges that are gone cannot come before it. What was written with a token that goes is written
with the pieces that its own merges, or others that are left, make of it; in the end with single characters or bytes,
which stay. So any text is read and written back as before, in more tokens.

A unigram model (Kudo 2018, arXiv 1804.10959) looks for the likeliest cut into pieces, and needs no others for a piece.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from secateur.contract.errors import InvalidInput
from workers.engine.text.tokenizer_json import merges_of

SPACE = "▁"  # by which tokenizers after sentencepiece write a space
_BYTES = frozenset(f"<0x{number:02X}>" for number in range(256))

Counts = np.ndarray[Any, np.dtype[np.int64]]


class Pieces(Protocol):
    """What a tokenizer's model writes text with."""

    @property
    def words(self) -> Mapping[str, int]:
        """The model's own tokens by their ids; added ones that it does not know are not among them."""
        ...

    @property
    def unknown(self) -> str | None:
        """The token that stands for what it does not know."""
        ...

    @property
    def spells_bytes(self) -> bool:
        """Whether it writes a character that it has no token for in bytes."""
        ...

    def parts(self, word: str) -> frozenset[str]:
        """All tokens that there are on the way to this one, itself among them."""
        ...


class BytePairs:
    """Byte-pair encoding, by its list of merges."""

    def __init__(self, model: Mapping[str, Any]) -> None:
        self.words: Mapping[str, int] = model["vocab"]
        self.unknown: str | None = model.get("unk_token")
        self.spells_bytes = bool(model.get("byte_fallback")) and self.words.keys() >= _BYTES
        self._ranks = {pair: rank for rank, pair in enumerate(merges_of({"model": model}))}

    def parts(self, word: str) -> frozenset[str]:
        """As the library makes it: each time the merge that stands first in the list, of equal ones the first in the
        word. One that no merges make is there by itself: a whole word may be, where merges are passed over for it."""
        made = list(word)
        seen = set(made)
        while len(made) > 1:
            ranks = [self._ranks.get(pair) for pair in pairwise(made)]
            found = [(rank, at) for at, rank in enumerate(ranks) if rank is not None]
            if not found:
                return frozenset((word,))
            _, at = min(found)
            made[at : at + 2] = [made[at] + made[at + 1]]
            seen.add(made[at])
        return frozenset(seen) if seen <= self.words.keys() else frozenset((word,))


class Unigrams:
    """A unigram model: pieces with their scores."""

    def __init__(self, model: Mapping[str, Any]) -> None:
        pieces = [piece for piece, _ in model["vocab"]]
        self.words: Mapping[str, int] = {piece: number for number, piece in enumerate(pieces)}
        unknown = model.get("unk_id")
        self.unknown: str | None = pieces[unknown] if unknown is not None else None
        self.spells_bytes = bool(model.get("byte_fallback")) and self.words.keys() >= _BYTES

    def parts(self, word: str) -> frozenset[str]:
        return frozenset((word,))


def indispensable(pieces: Pieces) -> set[str]:
    """The tokens without which some text could not be written, that could be before.

    Where characters may be written in bytes, these and those characters that every text has; else every character, and
    every piece with one that has no token of its own.
    """
    needed = {pieces.unknown} if pieces.unknown is not None else set()
    if pieces.spells_bytes:
        plain = {word for word in pieces.words if len(word) == 1 and (word.isascii() or word.isspace())}
        return needed | _BYTES | plain | ({SPACE} & pieces.words.keys())
    letters = {word for word in pieces.words if len(word) == 1}
    return needed | letters | {word for word in pieces.words if not letters.issuperset(word)}


def tokens_to_keep(pieces: Pieces, counts: Counts, *, tokens: int, needed: Iterable[int]) -> list[int]:
    """The ids that stay, exactly `tokens` of them, ascending.

    After those that are needed, the most frequent ones, each with its parts, as far as these fit in; then in the order
    of their ids, in which the most general come first.

    Args:
        counts: how often each id occurs in a text, (ids,).
        needed: ids that stay in any case, beside the indispensable ones.

    Raises:
        InvalidInput: more have to stay than `tokens`.
    """
    kept = {pieces.words[word] for word in indispensable(pieces)} | set(needed)
    if len(kept) > tokens:
        raise InvalidInput.field(
            "tokens",
            f"{tokens:,} tokens cannot write every text: {len(kept):,} have to stay, which are special and added ones "
            "and what stands for single characters or bytes",
            value=tokens,
            expected=f"at least {len(kept):,}",
        )
    named = {number: word for word, number in pieces.words.items()}
    order = [int(number) for number in np.argsort(-counts, kind="stable") if int(number) in named]
    before = -1
    while before < len(kept) < tokens:  # what did not fit in with its parts may by itself, when these are there
        before = len(kept)
        for number in order:
            more = {pieces.words[word] for word in pieces.parts(named[number])} - kept if number not in kept else kept
            if len(kept) + len(more) <= tokens:
                kept |= more
    return sorted(kept)
