"""Every prompt of the built-in checks has one right answer, which follows from what it asks."""

from __future__ import annotations

import json
import re
from typing import get_args

import pytest

from secateur.contract.options.benchmark import GenerationBenchmark, GenerationCheck
from workers.engine.benchmarks.generation_items import ASKS, Item, Question, items_of

CHECKS: tuple[GenerationCheck, ...] = get_args(GenerationCheck)


def questions(check: GenerationCheck, prompts: int = 40) -> list[Question]:
    return [q for item in items_of(check, prompts=prompts, seed=3) for q in (*item.examples, item.question)]


def test_every_check_is_there_and_on_by_default() -> None:
    assert set(ASKS) == set(CHECKS) == set(GenerationBenchmark().checks)


@pytest.mark.parametrize("check", CHECKS)
def test_prompts_follow_from_the_seed(check: GenerationCheck) -> None:
    found = items_of(check, prompts=8, seed=3)
    assert found == items_of(check, prompts=8, seed=3)
    assert found == items_of(check, prompts=16, seed=3)[:8]
    assert found != items_of(check, prompts=8, seed=4)
    assert len({item.question.asked for item in found}) == 8


@pytest.mark.parametrize("check", CHECKS)
def test_an_answer_is_one_line_without_spaces_around_it(check: GenerationCheck) -> None:
    for question in questions(check):
        assert question.answer == question.answer.strip()
        assert len(question.answer.splitlines()) == 1


def test_sums() -> None:
    signs, digits = set(), set()
    for question in questions("arithmetic"):
        first, sign, second = re.fullmatch(r"What is (\d+) ([+-]) (\d+)\?", question.asked).groups()  # type: ignore[union-attr]
        signs.add(sign)
        digits.add(len(second))
        assert int(question.answer) == int(first) + int(f"{sign}{second}")
        assert int(question.answer) > 0
    assert signs == {"+", "-"}
    assert digits == {1, 2}


def test_copies() -> None:
    for question in questions("copying"):
        assert question.asked == f"Repeat exactly: {question.answer}"
        assert len(question.answer.split()) == 5


def test_forms() -> None:
    forms = set()
    for question in questions("format"):
        asked, _, given = question.asked.partition(": ")
        forms.add(asked)
        if asked == "Write as JSON":
            read = json.loads(question.answer)
            assert given == f"{read['name']} is {read['age']} and lives in {read['city']}."
            continue
        words = given.split(", ")
        assert re.findall("[a-z]+", question.answer) == words
        assert len(set(words)) == 3
    assert len(forms) == 4


def test_the_examples_of_a_prompt_show_the_form_of_its_answer() -> None:
    for item in items_of("format", prompts=8, seed=0):
        kinds = {question.asked.partition(":")[0] for question in (*item.examples, item.question)}
        assert len(kinds) == 1


def test_both_forms_of_a_prompt() -> None:
    prompt = Item((Question("1 + 1?", "2"), Question("2 + 2?", "4")), Question("3 + 3?", "6")).prompt()
    assert prompt.plain == ("Question: 1 + 1?\nAnswer: 2\n\nQuestion: 2 + 2?\nAnswer: 4\n\nQuestion: 3 + 3?\nAnswer:")
    assert [(message["role"], message["content"]) for message in prompt.messages] == [
        ("user", "1 + 1?"),
        ("assistant", "2"),
        ("user", "2 + 2?"),
        ("assistant", "4"),
        ("user", "3 + 3?"),
    ]
