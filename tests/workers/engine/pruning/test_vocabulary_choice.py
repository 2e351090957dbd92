"""Which tokens stay, and that every text is read and written back as before, whatever it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from secateur.contract.errors import InvalidInput
from tests.fixtures.tokenizers import BYTES, SPECIAL, TOKENIZERS, WORDS
from workers.engine.pruning.tokenizer_rewrite import added_tokens, pieces_of, rewritten
from workers.engine.pruning.vocabulary_choice import BytePairs, indispensable, tokens_to_keep

KINDS = sorted(TOKENIZERS)


@cache
def pair(kind: str, left: int) -> tuple[Tokenizer, Tokenizer, tuple[int, ...]]:
    """A tokenizer, the same with `left` more tokens than it must have, and the ids that stayed."""
    before = TOKENIZERS[kind]()
    written = json.loads(before.to_str())
    pieces = pieces_of(written)
    counts = np.bincount(before.encode(WORDS, add_special_tokens=False).ids, minlength=1)
    needed = {*added_tokens(written).values()}
    least = len({pieces.words[word] for word in indispensable(pieces)} | needed)
    kept = tokens_to_keep(pieces, counts, tokens=least + left, needed=needed)
    return before, Tokenizer.from_str(json.dumps(rewritten(written, kept))), tuple(kept)


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


def _back(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=False))


TEXTS = st.lists(
    st.one_of(
        st.text(max_size=6),
        st.sampled_from([*SPECIAL, *WORDS.split()[:40], " ", "  ", "\n", "🙂‍↔️", "e\u0301", "▁", "<0x41>", "\x00"]),
    ),
    max_size=8,
).map("".join)


@pytest.mark.parametrize("left", [0, 1, 30])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None, derandomize=True)
@example("nobody remembers who built the mill 你好 🙂🙂 ü")
@given(text=TEXTS)
def test_any_text_is_written_back_as_before(kind: str, left: int, text: str) -> None:
    before, after, kept = pair(kind, left)
    ids, new = _ids(before, text), _ids(after, text)
    assert _back(after, new) == _back(before, ids)
    if set(ids) <= set(kept):  # what is written in kept tokens is written in the same ones
        assert [kept[number] for number in new] == ids


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_costs_fewer_tokens_and_more_tokens_help(kind: str) -> None:
    lengths = [len(_ids(pair(kind, left)[1], WORDS)) for left in (0, 10, 40)]
    assert lengths[0] > lengths[1] > lengths[2] >= len(_ids(pair(kind, 0)[0], WORDS))


@pytest.mark.parametrize("left", [0, 1, 2, 7, 35])
@pytest.mark.parametrize("kind", KINDS)
def test_exactly_so_many_stay_and_those_that_must(kind: str, left: int) -> None:
    before, after, kept = pair(kind, left)
    assert len(kept) == after.get_vocab_size() == len(pair(kind, 0)[2]) + left
    assert list(kept) == sorted(set(kept))
    assert [after.id_to_token(new) for new in range(len(kept))] == [before.id_to_token(old) for old in kept]
    names = {before.id_to_token(number) for number in kept}
    assert names >= set(SPECIAL)
    assert kind == "byte level" or names >= set(BYTES)


@pytest.mark.parametrize("kind", ["byte level", "byte fallback"])
def test_a_token_stays_with_all_that_its_merges_need(kind: str) -> None:
    before, after, kept = pair(kind, 30)
    for number in kept:
        word = before.id_to_token(number)
        if word not in (*SPECIAL, *BYTES, "<tool>"):
            text = _back(before, [number])
            assert [kept[new] for new in _ids(after, text)] == _ids(before, text), word


def test_the_parts_of_a_token_are_those_of_its_merges() -> None:
    vocab = {word: number for number, word in enumerate(["a", "b", "c", "ab", "bc", "abc", "abcab", "xyz"])}
    pairs = BytePairs({"vocab": vocab, "merges": [["b", "c"], "a bc", ["a", "b"], ["abc", "ab"], ["ab", "c"]]})
    assert pairs.parts("abc") == {"a", "b", "c", "bc", "abc"}  # by the first merge, and not through ab
    assert pairs.parts("abcab") == {"a", "b", "c", "bc", "abc", "ab", "abcab"}
    assert pairs.parts("a") == {"a"}
    assert pairs.parts("xyz") == {"xyz"}  # which no merge makes


def _model(**more: Any) -> dict[str, Any]:
    vocab = {word: number for number, word in enumerate(["a", "b", "c", "ab", "abc", "é", "ca"])}
    return {"vocab": vocab, "merges": [["a", "b"], ["ab", "c"]], **more}


def test_the_most_frequent_stay_with_their_parts() -> None:
    pieces = BytePairs(_model())
    counts = np.array([1, 1, 1, 1, 9, 0, 0])
    assert tokens_to_keep(pieces, counts, tokens=6, needed=[]) == [0, 1, 2, 3, 4, 5]  # abc, and ab with it
    assert tokens_to_keep(pieces, counts, tokens=5, needed=[]) == [0, 1, 2, 3, 5]  # there is no room for both
    assert tokens_to_keep(pieces, counts, tokens=5, needed=[6]) == [0, 1, 2, 5, 6]


def test_too_few_are_refused_with_the_least_number() -> None:
    with pytest.raises(InvalidInput, match="4 have to stay") as caught:
        tokens_to_keep(BytePairs(_model()), np.array([1]), tokens=3, needed=[])
    (error,) = caught.value.errors
    assert (error.pointer, error.value, error.expected) == ("tokens", 3, "at least 4")


def test_characters_may_go_where_bytes_can_write_them() -> None:
    words = ["a", "é", "▁", "\u3000", "中", *BYTES]
    vocab = {word: number for number, word in enumerate(words)}
    spelt = BytePairs({"vocab": vocab, "merges": [], "byte_fallback": True})
    assert indispensable(spelt) == {"a", "▁", "\u3000", *BYTES}
    assert indispensable(BytePairs({"vocab": vocab, "merges": []})) >= {"é", "中"}
    lacking = {word: number for word, number in vocab.items() if word != "<0x7F>"}
    assert indispensable(BytePairs({"vocab": lacking, "merges": [], "byte_fallback": True})) >= {"é", "中"}
