"""An answer is told in pieces that are whole characters, and together are the text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from secateur.contract.errors import StageFailed
from workers.engine.benchmarks import answering
from workers.engine.benchmarks.answering import Answer, answer


class Bytes:
    """A tokenizer of one token for each byte."""

    def decode(self, ids: list[int], *, skip_special_tokens: bool) -> str:
        return bytes(ids).decode("utf-8", errors="replace")


@pytest.fixture(autouse=True)
def told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "TELL_SECONDS", 0.0)


def written(
    text: bytes, monkeypatch: pytest.MonkeyPatch, model: PreTrainedModel
) -> tuple[Answer, list[tuple[str, int]]]:
    """What is told of a model that writes just this text."""

    def continuations(*_: Any, ended: Callable[[list[int]], bool], **__: Any) -> list[list[int]]:
        new: list[int] = []
        for token in text:
            new.append(token)
            if ended(new):
                break
        return [new]

    monkeypatch.setattr(answering, "continuations", continuations)
    pieces: list[tuple[str, int]] = []
    given: dict[str, Any] = {"most": 100, "temperature": 0.0, "seed": 0, "seconds": 60.0}
    tokenizer: Any = Bytes()
    found = answer(model, tokenizer, np.array([1]), **given, tell=lambda piece, tokens: pieces.append((piece, tokens)))
    return found, pieces


@pytest.fixture
def model(make_model: Callable[..., PreTrainedModel]) -> PreTrainedModel:
    return make_model("llama")


def test_a_character_is_told_when_it_is_whole(monkeypatch: pytest.MonkeyPatch, model: PreTrainedModel) -> None:
    found, pieces = written("aü€b".encode(), monkeypatch, model)
    assert pieces == [("a", 1), ("ü", 3), ("€", 6), ("b", 7), ("", 7)]
    assert (found.text, found.tokens, found.ended) == ("aü€b", 7, "end")


def test_what_never_becomes_whole_is_told_in_the_end(monkeypatch: pytest.MonkeyPatch, model: PreTrainedModel) -> None:
    _, pieces = written(b"a" + b"\xe2", monkeypatch, model)
    assert "".join(piece for piece, _ in pieces) == "a\ufffd"


def test_no_answer_at_all(monkeypatch: pytest.MonkeyPatch, model: PreTrainedModel) -> None:
    found, pieces = written(b"", monkeypatch, model)
    assert found == Answer("", 0, None, None, "end")
    assert pieces == [("", 0)]


def test_a_model_whose_weights_are_broken(model: PreTrainedModel) -> None:
    broken: Any = model
    with torch.no_grad():
        broken.lm_head.weight.fill_(float("nan"))
    tokenizer: Any = Bytes()
    given: dict[str, Any] = {"most": 4, "temperature": 0.0, "seed": 0, "seconds": 60.0, "tell": lambda *_: None}
    with pytest.raises(StageFailed, match="not finite"):
        answer(model, tokenizer, np.array([1, 2]), **given)
