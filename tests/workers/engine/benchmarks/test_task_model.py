"""The harness's own encoding, in a process that can be ended."""

from __future__ import annotations

from typing import Any

import pytest
from lm_eval.models.huggingface import HFLM  # type: ignore[import-untyped]  # ships no annotations

from secateur.contract.errors import InvalidInput
from tests.workers.conftest import byte_tokenizer
from tests.workers.engine.text.test_tokenizing import LOOKS_BACK, with_pattern
from workers.engine.benchmarks.task_model import harness_model
from workers.engine.progress import no_progress
from workers.engine.text import tokenizing

TEXTS = ["The river", "", "</s> a  longer one, \n\n ünïcode"]


@pytest.fixture
def model(make_model: Any) -> Any:
    return make_model("llama", vocab_size=259)


def test_texts_are_encoded_as_the_harness_does_it(model: Any) -> None:
    tokenizer: Any = byte_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    plain = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=2)
    with harness_model(model, tokenizer, batch_size=2, progress=no_progress) as harness:
        for text in TEXTS:
            assert harness.tok_encode(text) == plain.tok_encode(text)
            assert harness.tok_encode(text, add_special_tokens=True, left_truncate_len=3) == plain.tok_encode(
                text, add_special_tokens=True, left_truncate_len=3
            )
        for side in ("left", "right"):
            found = harness.tok_batch_encode(TEXTS, padding_side=side, left_truncate_len=6)
            expected = plain.tok_batch_encode(TEXTS, padding_side=side, left_truncate_len=6)
            assert [rows.tolist() for rows in found] == [rows.tolist() for rows in expected]
            assert [rows.dtype for rows in found] == [rows.dtype for rows in expected]


@pytest.mark.parametrize("method", ["tok_encode", "tok_batch_encode"])
def test_a_text_that_the_tokenizer_takes_for_ever_for_is_told_of_the_tasks(
    method: str, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizing, "ENCODE_SECONDS", 1.5)
    monkeypatch.setattr(tokenizing, "CHARACTERS_A_SECOND", 1e9)
    text = "plain text, " * 20_000
    with (
        harness_model(model, with_pattern(LOOKS_BACK), batch_size=2, progress=no_progress) as harness,
        pytest.raises(
            InvalidInput, match=r"cannot take a text of the tasks: on 240,000 characters it took more"
        ) as told,
    ):
        getattr(harness, method)(text if method == "tok_encode" else [text])
    assert told.value.errors[0].pointer == "items"


def test_a_text_that_the_tokenizer_breaks_on_is_told_in_its_words(model: Any) -> None:
    with (
        harness_model(model, with_pattern(r"(x+x+)+y"), batch_size=2, progress=no_progress) as harness,
        pytest.raises(InvalidInput, match=r"cannot take a text of the tasks: .*retry-limit"),
    ):
        harness.tok_encode("x" * 60)
