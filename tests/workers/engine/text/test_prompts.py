"""Prompts go through the model's chat template where it has one that can be used, and else are all plain text."""

from __future__ import annotations

from typing import Any

import pytest

from tests.workers.conftest import byte_tokenizer
from workers.engine.text.prompts import Prompt, encoded_prompts

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
REFUSES = "{{ raise_exception('no chats today') }}"
PROMPTS = [
    Prompt.of("The river"),
    Prompt("Q: a\nA: b\n", ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"})),
]


def tokenizer_with(template: str | None) -> Any:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def read(tokenizer: Any, found: Any) -> list[str]:
    return [tokenizer.decode(ids) for ids in found.ids]


def test_a_chat_model_gets_chats() -> None:
    tokenizer = tokenizer_with(TEMPLATE)
    found = encoded_prompts(tokenizer, PROMPTS, chat=True, rows=259, room=None)
    assert found.chat
    assert not found.fault
    assert read(tokenizer, found) == ["<user>The river\n<assistant>", "<user>a\n<assistant>b\n<assistant>"]
    assert found.texts == ("The river", "Q: a\nA: b\n")
    assert found.longest == max(len(ids) for ids in found.ids)


@pytest.mark.parametrize(("template", "chat"), [(None, True), (TEMPLATE, False)])
def test_without_a_template_or_the_wish_they_are_plain(template: str | None, chat: bool) -> None:
    tokenizer = tokenizer_with(template)
    found = encoded_prompts(tokenizer, PROMPTS, chat=chat, rows=259, room=None)
    assert (found.chat, found.fault) == (False, "")
    assert read(tokenizer, found) == ["The river", "Q: a\nA: b\n"]


@pytest.mark.parametrize(
    ("template", "rows", "room", "says"),
    [
        (REFUSES, 259, None, "no chats today"),
        ("{% for %}", 259, None, "is no Jinja template"),
        ("{{ messages[0].content }}😀", 256, None, "no row for"),
        (TEMPLATE, 259, 20, "longer than the 20 tokens"),
    ],
)
def test_a_template_that_cannot_be_used_leaves_all_of_them_plain(
    template: str, rows: int, room: int | None, says: str
) -> None:
    tokenizer = tokenizer_with(template)
    found = encoded_prompts(tokenizer, PROMPTS, chat=True, rows=rows, room=room)
    assert not found.chat
    assert says in found.fault
    assert read(tokenizer, found) == ["The river", "Q: a\nA: b\n"]
