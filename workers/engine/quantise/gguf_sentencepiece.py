"""Byte-pair encoding as sentencepiece has it (Llama 1 and 2, Vicuna, Mistral), as keys of a GGUF file.

Such a tokenizer writes a space as "▁", merges without cutting text into words first, and spells in bytes what it does
not know. `tokenizer.json` keeps a list of pairs to merge, in order. llama.cpp, like sentencepiece itself, keeps a score
for each token, and merges the neighbours that make the token of the highest score. Both do the same if the pairs that
make one token stand together, and if whatever two tokens make a third are such a pair. So that is looked at, and a
token's score is minus its place in the order, as in the models of Llama themselves. Those give all runs of spaces one
score, and some converters mix their pairs; that is right where runs are cut alike, which is tried. A unigram model,
which sentencepiece has as well, looks for the likeliest cut of the whole text; no scores make merging do that, and it
is refused.

One thing differs, as it does in every GGUF file of these models: llama.cpp puts the space that begins a text before
each stretch between control tokens too, and before a text that has one already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from workers.engine.checkpoints.gguf.runs import cut_alike
from workers.engine.checkpoints.gguf_file import ARRAY, STRING, encode_value
from workers.engine.quantise.gguf_vocabulary import (
    BYTE,
    NORMAL,
    UNUSED,
    USER_DEFINED,
    Vocabulary,
    refuse,
    steps_of,
)
from workers.engine.text.tokenizer_json import merges_of

INT32, FLOAT32, BOOL = 5, 6, 7  # value types
SPACE = "▁"
_UNUSED_SCORE = -10_000.0  # as llama.cpp's own converter has it
_SPACES = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
_PREPEND = {"type": "Prepend", "prepend": SPACE}
# Cuts at spaces of which none are left by then: Gemma's tokenizers have it.
_NO_CUT = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}


def sentencepiece_keys(written: Mapping[str, Any], words: Vocabulary) -> Iterator[bytes]:
    """The encoded keys `tokenizer.ggml.…` that hold tokens, their scores and types, and how text begins.

    Args:
        written: the tokenizer, as tokenizer.json has it; BPE with byte fallback.

    Raises:
        UnsupportedModel: llama.cpp would cut text in another way.
    """
    _check_model(written["model"], words)
    merges = merges_of(written)
    _check_pairs(merges, words)
    places = _places(merges)
    prefix = _begins_with_space(written, words)
    spelt = [
        word.replace(SPACE, " ") if kind == USER_DEFINED else word
        for word, kind in zip(words.tokens, words.types, strict=True)  # those are looked for in the text as it is
    ]
    yield encode_value("tokenizer.ggml.model", STRING, "llama")
    yield encode_value("tokenizer.ggml.pre", STRING, "default")
    yield encode_value("tokenizer.ggml.tokens", ARRAY, spelt, element=STRING)
    yield encode_value("tokenizer.ggml.scores", ARRAY, _scores(places, words), element=FLOAT32)
    yield encode_value("tokenizer.ggml.token_type", ARRAY, words.types, element=INT32)
    yield encode_value("tokenizer.ggml.add_space_prefix", BOOL, prefix)


def _check_model(model: Mapping[str, Any], words: Vocabulary) -> None:
    for entry in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges"):
        if model.get(entry):
            raise refuse(f"The model's tokenizer has the setting {entry}, which llama.cpp has not.")
    if sum(kind == BYTE for kind in words.types) < 256:
        raise refuse("The model's tokenizer has no token for some bytes.")


def _check_pairs(merges: Iterable[tuple[str, str]], words: Vocabulary) -> None:
    """Raise UnsupportedModel if two tokens that make a third are not in the list: a score would merge them."""
    pairs = set(merges)
    normal = {word for word, kind in zip(words.tokens, words.types, strict=True) if kind == NORMAL}
    for word in normal:
        for cut in range(1, len(word)):
            pair = word[:cut], word[cut:]
            if pair[0] in normal and pair[1] in normal and pair not in pairs:
                raise refuse(f"The model's tokenizer makes no {word!r} of {pair[0]!r} and {pair[1]!r}.")


def _places(merges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """The place of each token in the order in which tokens are made; those whose pairs are mixed have one place.

    Raises:
        UnsupportedModel: pairs are mixed, and one place for their tokens is not the same.
    """
    last = {left + right: number for number, (left, right) in enumerate(merges)}
    places: dict[str, int] = {}
    mixed: set[str] = set()
    first, place, end = "", 0, -1  # of the tokens whose pairs have begun and not ended
    for number, (left, right) in enumerate(merges):
        token = left + right
        if number > end:  # no pair of the tokens so far comes again
            first, place = token, len(places)
        elif token not in places:
            mixed.update((first, token))
        places.setdefault(token, place)
        end = max(end, last[token])
    alike = {token[0]: _cut_alike(token[0], merges, places) for token in mixed if len(set(token)) == 1}
    for token in sorted(mixed):
        if len(set(token)) > 1 or not alike[token[0]]:
            raise refuse(f"The model's tokenizer makes {token!r} earlier of some pairs than of others.")
    return places


def _cut_alike(letter: str, merges: Sequence[tuple[str, str]], places: Mapping[str, int]) -> bool:
    """Whether runs of a character are cut alike by pairs and by places."""
    pairs = [(rank, pair) for rank, pair in enumerate(merges) if set("".join(pair)) == {letter}]
    by_pair = {(len(left), len(right)): rank for rank, (left, right) in pairs}
    by_place = {(len(left), len(right)): places[left + right] for _, (left, right) in pairs}
    return cut_alike(by_pair, by_place)


def _begins_with_space(written: Mapping[str, Any], words: Vocabulary) -> bool:
    """Whether a text is read as if it began with a space.

    Spaces are written as "▁" by the normalizer, or by the step before the merges.
    """
    normalizer = [dict(step) for step in steps_of(written.get("normalizer"), "normalizers")]
    cuts = [dict(step) for step in steps_of(written.get("pre_tokenizer"), "pretokenizers")]
    if _SPACES in normalizer and all(cut == _NO_CUT for cut in cuts):
        if normalizer == [_PREPEND, _SPACES]:
            return True
        if normalizer == [_SPACES]:
            return False
    elif not normalizer and [cut.get("type") for cut in cuts] == ["Metaspace"]:
        (cut,) = cuts
        # Cut at spaces, text is merged word by word: the same where no token goes over a space.
        within = not cut.get("split", True) or not any(
            kind == NORMAL and SPACE in word[1:] for word, kind in zip(words.tokens, words.types, strict=True)
        )
        if within and cut.get("replacement") == SPACE:
            return str(cut.get("prepend_scheme", "always")) != "never"
    kinds = ", ".join(str(step.get("type")) for step in (*normalizer, *cuts)) or "nothing"
    raise refuse(f"The model's tokenizer prepares text by {kinds} in a way that llama.cpp has not.")


def _scores(places: Mapping[str, int], words: Vocabulary) -> list[float]:
    """Minus the place of each token, and lower still for those that are not made.

    Whole numbers up to 2²⁴ are exact in float32. Bytes and what is no text have 0, as sentencepiece gives them.
    """
    scores = []
    behind = len(places)
    for word, kind in zip(words.tokens, words.types, strict=True):
        if kind != NORMAL:
            scores.append(_UNUSED_SCORE if kind == UNUSED else 0.0)
        elif word in places:
            scores.append(-float(places[word]))
        else:
            scores.append(-float(behind))
            behind += 1
    return scores
