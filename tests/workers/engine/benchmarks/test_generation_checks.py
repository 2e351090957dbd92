"""Answers are those of one prompt at a time, and their figures those of a plain count."""

from __future__ import annotations

from collections.abc import Callable
from math import comb
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from tests.workers.conftest import byte_tokenizer
from workers.engine.benchmarks import generation_checks
from workers.engine.benchmarks.continuations import continuations
from workers.engine.benchmarks.generation_checks import (
    Answers,
    Items,
    answer_prompts,
    first_line,
    generation_scores,
    share_interval,
)
from workers.engine.benchmarks.generation_items import Item, Question, items_of
from workers.engine.text.prompts import encoded_prompts


def item(answer: str) -> Item:
    return Item((), Question("?", answer))


ITEMS: Items = {"arithmetic": [item("1"), item("2"), item("3"), item("4")], "copying": [item("a"), item("b")]}
BEFORE = Answers({"arithmetic": ["1", "2", "3", "no"], "copying": ["a", "x"]}, chat=False)
AFTER = Answers({"arithmetic": ["1", "9", "3\nfor sure", "no"], "copying": ["x", "b"]}, chat=False)


def test_figures_are_counted() -> None:
    whole, arithmetic, copying = generation_scores(AFTER, ITEMS, BEFORE)
    assert [score.check for score in (whole, arithmetic, copying)] == ["all", "arithmetic", "copying"]
    assert [score.headline for score in (whole, arithmetic, copying)] == [True, False, False]
    assert [score.prompts for score in (whole, arithmetic, copying)] == [6, 4, 2]
    assert [score.exact for score in (whole, arithmetic, copying)] == [3 / 6, 2 / 4, 1 / 2]
    assert [score.drop for score in (whole, arithmetic, copying)] == pytest.approx([1 / 6, 1 / 4, 0])
    assert [score.agreement for score in (whole, arithmetic, copying)] == [2 / 6, 2 / 4, 0]
    assert whole.standard_error == pytest.approx((3 / 6 * 3 / 6 / 5) ** 0.5)
    assert whole.p_value == pytest.approx(1.0)  # two lost, one gained
    assert arithmetic.drop_low is not None
    assert arithmetic.drop_high is not None
    assert arithmetic.drop_low <= 1 / 4 <= arithmetic.drop_high


def test_the_original_is_compared_with_nothing() -> None:
    for score in generation_scores(BEFORE, ITEMS, None):
        assert (score.drop, score.p_value, score.agreement) == (None, None, None)


def test_a_variant_that_answers_alike_is_not_certain_to() -> None:
    whole = generation_scores(BEFORE, ITEMS, BEFORE)[0]
    assert (whole.drop, whole.agreement, whole.agreement_high) == (0, 1, 1)
    assert whole.agreement_low == pytest.approx(0.025 ** (1 / 6))
    assert whole.drop_high is not None
    assert whole.drop_high > 0.3


def test_an_interval_of_a_share_is_that_of_clopper_and_pearson() -> None:
    low, high = share_interval(7, 10)

    def at_least(share: float, count: int) -> float:  # of ten, so many or more
        return sum(comb(10, k) * share**k * (1 - share) ** (10 - k) for k in range(count, 11))

    assert at_least(low, 7) == pytest.approx(0.025, rel=1e-6)
    assert 1 - at_least(high, 8) == pytest.approx(0.025, rel=1e-6)


@pytest.mark.parametrize(("text", "line"), [("", ""), ("\n \n 42 \n43", "42"), ("42", "42"), (" \n", "")])
def test_an_answer_stands_in_the_first_line_that_holds_anything(text: str, line: str) -> None:
    assert first_line(text) == line


@pytest.fixture
def tiny(make_model: Callable[..., PreTrainedModel]) -> tuple[Any, Any]:
    model = make_model("llama", vocab_size=259, max_position_embeddings=256)
    return model, byte_tokenizer()


@pytest.mark.parametrize("template", [None, "{% for m in messages %}{{ m.content }}|{% endfor %}"])
@pytest.mark.parametrize("at_once", [1, 3, 32])
def test_answers_are_those_of_generate(
    tiny: tuple[Any, Any], template: str | None, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = tiny
    tokenizer.chat_template = template
    monkeypatch.setattr(generation_checks, "MAX_BATCH", at_once)
    items: Items = {
        "copying": items_of("copying", prompts=3, seed=1),
        "arithmetic": items_of("arithmetic", prompts=3, seed=1),
    }
    asked = [item.prompt() for of_check in items.values() for item in of_check]
    prompts = encoded_prompts(tokenizer, asked, chat=True, rows=259, room=None)
    most = [12, 5, 9, 12, 3, 7]
    told: list[tuple[int, int, str]] = []
    found = answer_prompts(model, tokenizer, items, prompts, most=most, progress=lambda *step: told.append(step))
    assert found.chat is (template is not None)
    expected = []
    for prompt, length in zip(asked, most, strict=True):
        text = prompt.plain if template is None else "".join(f"{m['content']}|" for m in prompt.messages)
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        new = model.generate(input_ids=ids, do_sample=False, max_new_tokens=length)[0, ids.shape[1] :]
        written = tokenizer.decode(new, skip_special_tokens=True)
        expected.append(written.strip() if template else first_line(written))
    assert found.texts == {"copying": expected[:3], "arithmetic": expected[3:]}
    assert told[-1] == (6, 6, "prompts")


def test_a_row_ends_by_itself(make_model: Callable[..., PreTrainedModel]) -> None:
    model: Any = make_model("llama")
    ids = torch.tensor([[5, 6, 7], [9, 8, 7]])
    long = continuations(model, ids, most=8)
    assert [len(new) for new in long] == [8, 8]
    model.generation_config.eos_token_id = [long[0][2]]
    first, second = continuations(model, ids, most=8)
    assert first == long[0][: long[0].index(long[0][2])]
    end = long[1].index(long[0][2]) if long[0][2] in long[1] else 8
    assert second == long[1][:end]
    model.generation_config.eos_token_id = None
    assert continuations(model, ids, most=8, ended=lambda new: len(new) == 3) == [new[:3] for new in long]
