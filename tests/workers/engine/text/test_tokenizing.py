"""Texts are encoded in a process of its own, as in this one, and no pattern of a tokenizer takes for ever."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tokenizers import Regex
from tokenizers.pre_tokenizers import Sequence, Split

from secateur.contract.errors import InvalidInput
from tests.workers.conftest import byte_tokenizer
from workers.engine.text import tokenizing
from workers.engine.text.text_ids import tokenize
from workers.engine.text.tokenizing import BoundedEncoder, encode


def with_pattern(pattern: str) -> Any:
    tokenizer: Any = byte_tokenizer()
    rust = tokenizer.backend_tokenizer
    rust.pre_tokenizer = Sequence([Split(Regex(pattern), "isolated"), rust.pre_tokenizer])
    return tokenizer


def test_as_in_this_process() -> None:
    tokenizer: Any = byte_tokenizer()
    text = "Zwölf Boxkämpfer </s> jagen\n\n " * 40
    plain = encode(tokenizer, text, offsets=True)
    with BoundedEncoder(tokenizer) as encoder:
        assert encoder.ids("").tolist() == []
        assert encoder.ids(text).tolist() == plain["input_ids"]
        both = encoder.ids_and_offsets(text)
        assert encoder.ids("he", special=True).tolist() == tokenizer("he")["input_ids"]
    assert both[:, 0].tolist() == plain["input_ids"]
    assert [tuple(pair) for pair in both[:, 1:].tolist()] == [tuple(pair) for pair in plain["offset_mapping"]]


LOOKS_BACK = r"[a-z, ]*(?<=Z)"  # each character's try goes to the end of the text: minutes


def test_a_pattern_that_looks_back_over_the_whole_text_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    text, pointer = "plain text, " * 20_000, "text"
    (plain,) = tokenize(with_pattern(r"[a-z]+"), iter([text]))
    assert len(plain) == len(text)
    monkeypatch.setattr(tokenizing, "ENCODE_SECONDS", 1.5)
    monkeypatch.setattr(tokenizing, "CHARACTERS_A_SECOND", 1e9)
    slow = with_pattern(LOOKS_BACK)
    with pytest.raises(InvalidInput, match=r"on 240,000 characters it took more than 1.5") as caught:
        list(tokenize(slow, iter([text])))
    assert caught.value.errors[0].pointer == pointer
    assert len(caught.value.errors[0].value) <= 201


def test_a_pattern_that_the_library_gives_up_on_is_told_in_its_words() -> None:
    with (
        BoundedEncoder(with_pattern(r"(x+x+)+y")) as encoder,
        pytest.raises(InvalidInput, match=r"cannot take this text: .*retry-limit") as caught,
    ):
        encoder.ids("x" * 60)
    assert caught.value.errors[0].pointer == "text"


def test_ids_of_long_texts_come_whole() -> None:
    tokenizer: Any = byte_tokenizer()
    text = "".join(chr(32 + number % 90) for number in range(300_000))
    with BoundedEncoder(tokenizer) as encoder:
        assert np.array_equal(encoder.ids(text), encode(tokenizer, text)["input_ids"])
