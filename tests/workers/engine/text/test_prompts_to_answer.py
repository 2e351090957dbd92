"""Prompts that the original answers: which, in what form, and what is told where there is no use for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from secateur.contract.errors import InvalidInput
from secateur.contract.options.texts import AnswersText, LocalText
from tests.fixtures.text_sources import text_source
from workers.engine.text.built_in_prompts import BUILT_IN_PROMPTS
from workers.engine.text.calibration import token_batch
from workers.engine.text.prompts_to_answer import PromptsToAnswer, prompts_to_answer
from workers.engine.text.text_source import Purpose, TextSource, Wanted

TEMPLATE = (
    "{% for m in messages %}({{ m.role }}) {{ m.content }}{% if m.role == 'assistant' %}</s>|{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}(assistant) {% endif %}"
)
BUILT_IN = AnswersText(source="answers")


@pytest.fixture
def make_source(tiny_checkpoint: Callable[..., Path], text_file: Path, tmp_path: Path) -> Callable[..., TextSource]:
    """make_source(template): a tiny model with that chat template, or with none."""

    def make(template: str | None = TEMPLATE, **settings: Any) -> TextSource:
        path = tiny_checkpoint(num_hidden_layers=2, **settings)
        if template is not None:
            (path / "chat_template.jinja").write_text(template)
        return text_source(path, roots=[text_file.parent], cache=tmp_path / "cache")

    return make


@pytest.fixture
def given(text_file: Path) -> Callable[..., AnswersText]:
    """given(rows): answers to the prompts of a file that holds them, as JSON or as plain text."""

    def make(content: list[Mapping[str, Any]] | str) -> AnswersText:
        plain = isinstance(content, str)
        text = content if isinstance(content, str) else "".join(json.dumps(row) + "\n" for row in content)
        file = text_file.with_name("prompts.txt" if plain else "prompts.jsonl")
        file.write_text(text)
        return AnswersText(source="answers", prompts=LocalText(source="local", path=file.name))

    return make


def found(
    source: TextSource, text: AnswersText, *, purpose: Purpose = "training", samples: int = 50, **more: Any
) -> PromptsToAnswer:
    return prompts_to_answer(source, text, Wanted(purpose, samples, **{"tokens": 256, **more}), samples)


def said(source: TextSource, prompts: PromptsToAnswer) -> set[str]:
    return {str(source.tokenizer.decode(list(ids))) for ids in prompts.ids}


def test_the_built_in_ones_are_some_hundreds_and_those_for_measuring_are_no_others(
    make_source: Callable[..., TextSource],
) -> None:
    source = make_source()
    assert len(BUILT_IN_PROMPTS) == len(set(BUILT_IN_PROMPTS)) > 250
    assert all(prompt == prompt.strip() != "" for prompt in BUILT_IN_PROMPTS)
    trained, calibrated, measured = (
        said(source, found(source, BUILT_IN, purpose=purpose, tokens=512))
        for purpose in ("training", "calibration", "measuring")
    )
    assert trained == calibrated
    assert not trained & measured
    assert trained | measured == {f"(user) {prompt}(assistant) " for prompt in BUILT_IN_PROMPTS}
    assert len(measured) == len(BUILT_IN_PROMPTS) // 5


def test_the_template_says_how_an_answer_ends_and_what_follows(
    make_source: Callable[..., TextSource], given: Callable[..., AnswersText]
) -> None:
    source = make_source()
    prompts = found(source, BUILT_IN)
    end = source.tokenizer.eos_token_id
    assert prompts.ends == {end}
    assert source.tokenizer.decode(list(prompts.after)) == "|"
    text = given("What?\n")
    ids, info = token_batch(source, text, purpose="training", samples=2, tokens=250)
    assert ids.shape == (2, 250)
    assert (info.source, info.identity) == ("answers", "prompts.txt")
    assert info.description == "answers of the model to prompts of prompts.txt, 0 to 1, temperature 1, seed 0"
    assert str(source.tokenizer.decode(ids[0])).startswith("(user) What?(assistant) ")


def test_without_a_template_a_prompt_is_a_line(
    make_source: Callable[..., TextSource], given: Callable[..., AnswersText]
) -> None:
    source, text = make_source(None), given("What is this?\n\nWho is there?\n")
    prompts = found(source, text)
    assert said(source, prompts) == {"What is this?\n", "Who is there?\n"}
    assert prompts.after == ()
    assert prompts.description == "prompts of prompts.txt, 0 to 1"
    broken = make_source("{{ raise_exception('never') }}")
    assert "as plain text, since the chat template cannot be used" in found(broken, text).description


def test_rows_of_any_kind_are_prompts_and_what_they_answer_is_not_read(
    make_source: Callable[..., TextSource], given: Callable[..., AnswersText]
) -> None:
    source = make_source()
    talk = [("user", "One?"), ("assistant", "Yes."), ("user", "Two?"), ("assistant", "No.")]
    for rows, expected in (
        ([{"text": "Sing."}], "(user) Sing.(assistant) "),
        ([{"instruction": "Add.", "input": "1 and 2", "output": "3"}], "(user) Add.\n\n1 and 2(assistant) "),
        (
            [{"messages": [{"role": role, "content": content} for role, content in talk]}],
            "(user) One?(assistant) Yes.</s>|(user) Two?(assistant) ",
        ),
    ):
        assert said(source, found(source, given(rows))) == {expected}


def test_a_beginning_of_text_token_stands_where_it_is_asked_for(make_source: Callable[..., TextSource]) -> None:
    source = make_source(None, bos=True)
    bos = source.tokenizer.bos_token_id
    for asked, first in (("auto", True), ("each", True), ("none", False)):
        assert all((ids[0] == bos) == first and bos not in ids[1:] for ids in found(source, BUILT_IN, bos=asked).ids)
    templated = make_source(name="templated", bos=True)
    assert all(bos not in ids for ids in found(templated, BUILT_IN, bos="auto").ids)
    assert all(ids[0] == bos for ids in found(templated, BUILT_IN, bos="each").ids)


def test_no_more_rows_are_read_than_the_samples_can_hold(
    make_source: Callable[..., TextSource], given: Callable[..., AnswersText]
) -> None:
    source, text = make_source(), given("".join(f"Number {number}?\n" for number in range(1000)))
    assert len(found(source, text, samples=3, tokens=128).ids) == 3 * 4


def test_prompts_that_leave_no_room_are_left_out_and_said_or_refused(
    make_source: Callable[..., TextSource], given: Callable[..., AnswersText]
) -> None:
    source, text = make_source(), given("Short?\n" + "long " * 30 + "\n")
    prompts = found(source, text, tokens=128)
    assert len(prompts.ids) == 1
    assert "without 1 that are too long for samples of 128 tokens" in prompts.description
    with pytest.raises(InvalidInput, match="Samples of 16 tokens have no room") as caught:
        found(source, text, tokens=16)
    assert caught.value.errors[0].pointer == "tokens"
    assert caught.value.errors[0].expected == "at least 50 tokens, or shorter prompts"


@pytest.mark.parametrize(
    ("content", "pointer", "words"),
    [
        ([{"text": "Go."}, {"text": 3}], "text/prompts", "Row 2 of the prompts has no string"),
        ([{"number": 1}], "text/prompts", "Row 1 of the prompts has no field that can be used"),
        ("\n\n", "text/prompts", "There are no prompts"),
        ("a\0b", "text/prompts/path", "is NUL"),
    ],
)
def test_what_is_wrong_is_told_at_the_prompts(
    make_source: Callable[..., TextSource],
    given: Callable[..., AnswersText],
    content: Any,
    pointer: str,
    words: str,
) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        found(make_source(), given(content))
    assert caught.value.errors[0].pointer == pointer


def test_answers_are_kept_under_the_prompts_and_differ_by_purpose(
    make_source: Callable[..., TextSource], given: Callable[..., AnswersText]
) -> None:
    source = make_source()
    loads: list[int] = []
    whole = source.load

    def load() -> object:
        loads.append(1)
        return whole()

    counted = TextSource(**{**vars(source), "load": load})

    def batch(text: AnswersText, purpose: Purpose = "training") -> Any:
        return token_batch(counted, text, purpose=purpose, samples=2, tokens=64)[1].sha256

    text = given("One?\n")
    first = batch(text)
    assert batch(text) == first
    assert len(loads) == 1
    assert batch(text, "calibration") != first
    assert batch(given("Two?\n")) != first
    assert len(loads) == 3
