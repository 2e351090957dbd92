"""From the scores of a sentencepiece model to the list of merges that `tokenizers` wants.

llama.cpp, like sentencepiece itself, joins the two neighbours that make the token of the highest score, the leftmost
first among equals. A list of merges does the same if all pairs that make one token stand together, in the order of the
scores, and no two tokens of one score compete for a neighbour. Runs of one character do, in the models of Llama
themselves: there it is tried whether they are cut alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from secateur.foreign_files.json_objects import quoted
from workers.engine.checkpoints.gguf.runs import cut_alike
from workers.engine.checkpoints.gguf.source import Source

_MADE = (0, 1, 5)  # types of tokens that merges make: undefined, normal and unused ones


def merges_of_scores(
    source: Source, tokens: Sequence[str], types: Sequence[int], scores: Sequence[Any]
) -> list[tuple[str, str]]:
    """Pairs of tokens to join, first to last.

    Raises:
        BadCheckpoint: a score is no number.
        UnsupportedModel: tokens of one score compete, and no list of merges does what llama.cpp would.
    """
    if not all(type(score) in (int, float) and math.isfinite(score) for score in scores):
        raise source.bad("a token's score is no number")
    score_of = {token: float(score) for token, kind, score in zip(tokens, types, scores, strict=True) if kind in _MADE}
    pairs_of = {
        token: [
            (token[:cut], token[cut:])
            for cut in range(1, len(token))
            if token[:cut] in score_of and token[cut:] in score_of
        ]
        for token in score_of
        if len(token) > 1
    }
    order = sorted(
        (token for token, pairs in pairs_of.items() if pairs), key=lambda token: (-score_of[token], len(token))
    )
    merges = [pair for token in order for pair in pairs_of[token]]
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or score_of[order[end]] != score_of[order[start]]:
            if end - start > 1:
                _check_tied(source, order[start:end], pairs_of, score_of)
            start = end
    return merges


def _check_tied(
    source: Source, tied: Sequence[str], pairs_of: dict[str, list[tuple[str, str]]], score_of: dict[str, float]
) -> None:
    """Refuse tokens of one score that compete for a neighbour, unless they are runs that are cut alike."""
    lefts: dict[str, set[str]] = {}
    for token in tied:
        for left, _ in pairs_of[token]:
            lefts.setdefault(left, set()).add(token)
    rivals = [
        (token, other)
        for token in tied
        for _, right in pairs_of[token]
        for other in lefts.get(right, ())
        if other != token
    ]
    letters = set()
    for token, other in rivals:
        if len(set(token + other)) > 1:
            raise source.unsupported(
                f"the tokens {quoted(token)} and {quoted(other)} have one score and compete for the same neighbours"
            )
        letters.add(token[0])
    for letter in letters:
        runs = [
            pair
            for token in sorted(pairs_of, key=lambda t: (-score_of[t], len(t)))
            if set(token) == {letter}
            for pair in pairs_of[token]
        ]
        by_place = {(len(left), len(right)): float(place) for place, (left, right) in enumerate(runs)}
        by_score = {(len(left), len(right)): -score_of[left + right] for left, right in runs}
        if not cut_alike(by_place, by_score):
            raise source.unsupported(f"runs of {quoted(letter)} are cut by scores as no list of merges cuts them")
