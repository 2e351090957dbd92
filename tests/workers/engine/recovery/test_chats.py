"""Where a chat's answers stand, whatever the template does with its turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from transformers import AutoTokenizer

from workers.engine.recovery.chats import Chats
from workers.engine.text.chat_templates import ChatRenderer
from workers.engine.text.tokenizing import BoundedEncoder

HEADER = "{% for m in messages %}({{ m['role'] }}) "
PROMPT = "{% if add_generation_prompt %}(assistant) {% endif %}"
PLAIN = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
REWRITES = (
    HEADER
    + "{% if loop.last and m['role'] == 'assistant' %}[thought]\n{% endif %}{{ m['content'] }}\n{% endfor %}"
    + PROMPT
)
CUTS_THOUGHTS = (
    "{% for m in messages %}<|{{ m.role }}|>\n{% set said = m.content %}"
    "{% if m.role == 'assistant' and not loop.last and '</think>' in said %}"
    "{% set said = said.split('</think>')[-1].lstrip('\n') %}{% endif %}{{ said }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
TRIMS = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content | trim }} [/INST]"
    "{% else %} {{ m.content | trim }} {{ eos_token }}{% endif %}{% endfor %}"
)
LOOKS_AT_THE_FIRST_CHARACTER = (
    "{% for m in messages %}{% if m.content[0] == 'H' %}!{% endif %}({{ m.role }}) {{ m.content }}\n{% endfor %}"
    + PROMPT
)
TRACKED = (
    "{% for m in messages %}({{ m.role }}) {% if m.role == 'assistant' %}{% generation %}{{ m.content }}\n"
    "{% endgeneration %}{% else %}{{ m.content }}\n{% endif %}{% endfor %}" + PROMPT
)
LAST_ENDS = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}{% if loop.last %}</s>{% else %}\n{% endif %}{% endfor %}"
)
CHAT = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Bye"), ("assistant", "Ciao")]

Encoded = Callable[..., tuple[Any, Any]]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from tests.workers.conftest import byte_tokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    byte_tokenizer().save_pretrained(folder)
    found: Any = AutoTokenizer.from_pretrained(folder)
    return found


@contextmanager
def chats(tokenizer: Any, template: Any, **more: Any) -> Iterator[Chats]:
    tokenizer.chat_template = template
    with ChatRenderer(tokenizer) as renderer, BoundedEncoder(tokenizer) as encoder:
        yield Chats(encoder, renderer, **more)


def messages_of(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in turns]


def answers(tokenizer: Any, template: str, *turns: tuple[str, str], **more: Any) -> list[str]:
    """What is learnt of the chat, answer by answer; the chat is tokenised as transformers does."""
    messages = messages_of(*turns)
    with chats(tokenizer, template, **more) as encode:
        example = encode({"messages": messages})
    assert example.ids == tokenizer.apply_chat_template(messages, return_dict=False)
    found: list[list[int]] = [[]]
    for token, is_answer in zip(example.ids, example.answer, strict=True):
        if is_answer:
            found[-1].append(token)
        elif found[-1]:
            found.append([])
    return [str(tokenizer.decode(ids)) for ids in found if ids]


@pytest.mark.parametrize(("template", "expected"), [
    (PLAIN, ["Hello</s>", "Ciao</s>"]),
    (REWRITES, ["Hello\n", "[thought]\nCiao\n"]),
    (TRACKED, ["Hello\n", "Ciao\n"]),
    (LOOKS_AT_THE_FIRST_CHARACTER, ["Hello\n", "Ciao\n"]),
    (LAST_ENDS, ["Hello", "Ciao</s>"]),
    ("{% for m in messages %}{{ m.content }}{% endfor %}", ["Hello", "Ciao"]),
])  # fmt: skip
def test_an_answer_is_what_the_assistant_says_and_what_ends_it(
    tokenizer: Any, template: str, expected: list[str]
) -> None:
    assert answers(tokenizer, template, *CHAT) == expected


def test_a_template_that_trims(tokenizer: Any) -> None:
    chat = [("user", " Hi\n"), ("assistant", "\n Hello, you. "), ("user", "Bye"), ("assistant", "Ciao")]
    assert answers(tokenizer, TRIMS, *chat) == ["Hello, you. </s>", "Ciao </s>"]


def test_a_template_that_cuts_earlier_thoughts(tokenizer: Any) -> None:
    chat = [
        ("user", "Hi"),
        ("assistant", "<think>\nhm\n</think>\n\nHello"),
        ("user", "Bye"),
        ("assistant", "<think></think>Ciao"),
    ]
    assert answers(tokenizer, CUTS_THOUGHTS, *chat) == ["Hello<|end|>\n", "<think></think>Ciao<|end|>\n"]


@pytest.mark.parametrize(
    "said", ["a", "user", "assistant", "(assistant) ", "Hi", "x" * 500, "ä€𝄞", "{{ 1 }}", "\U000f0001"]
)
def test_an_answer_that_stands_elsewhere_too_is_found_in_its_place(tokenizer: Any, said: str) -> None:
    chat = [("user", f"Hi {said}"), ("assistant", said), ("user", said), ("assistant", f"{said}!")]
    assert answers(tokenizer, REWRITES, *chat) == [f"{said}\n", f"[thought]\n{said}!\n"]


def test_what_ends_an_answer_is_known_where_the_last_word_is_the_users(tokenizer: Any) -> None:
    assert answers(tokenizer, PLAIN, *CHAT, ("user", "Wait")) == ["Hello</s>", "Ciao</s>"]


def test_a_chat_of_thousands_of_messages(tokenizer: Any) -> None:
    """Whose marks are found in one pass over it, and not once for each message."""
    chat = [(role, f"{role[0]}{number}") for number in range(1500) for role in ("user", "assistant")]
    found = answers(tokenizer, PLAIN, *chat)
    assert found == [f"a{number}</s>" for number in range(1500)]


def test_an_answer_that_the_template_cuts_the_beginning_of(tokenizer: Any) -> None:
    cuts = PLAIN.replace("{{ m.content }}", "{{ m.content.split('|')[-1] }}")
    assert answers(tokenizer, cuts, ("user", "Hi"), ("assistant", "hm|Hello")) == ["Hello</s>"]


def test_an_answer_with_nothing_in_it(tokenizer: Any) -> None:
    assert answers(tokenizer, PLAIN, ("user", "Hi"), ("assistant", ""), ("user", "?"), ("assistant", " ")) == [
        "</s>",
        " </s>",
    ]


def test_a_beginning_of_text_token_as_it_is_asked_for(tokenizer: Any) -> None:
    row = {"messages": messages_of(("user", "Hi"), ("assistant", "Hello"))}
    for template, has in ((TRIMS, True), (PLAIN, False)):
        found = {}
        for asked in ("auto", "first", "each", "none"):
            with chats(tokenizer, template, asked=asked, bos=1) as encode:
                found[asked] = encode(row)
        assert {asked: example.ids[0] == 1 for asked, example in found.items()} == {
            "auto": has, "first": has, "each": True, "none": False
        }  # fmt: skip
        assert all(example.ids[1:2] != [1] for example in found.values())
        assert len({sum(example.answer) for example in found.values()}) == 1


@pytest.mark.parametrize(("template", "turns", "says"), [
    ("{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}", CHAT,
     "leaves out what the assistant says in message 3"),
    ("{% for m in messages %}{% if m.role in ('user', 'assistant') %}{{ m.content }}{% endif %}{% endfor %}",
     [("human", "Hi"), ("user", "Oh"), ("assistant", "Hello")], 'leaves out message 1, whose role is "human"'),
    ("{{ raise_exception('no system messages here') }}", CHAT, "no system messages here"),
    ("{{ messages[0].content.nothing.more }}", CHAT, "has no attribute 'nothing'"),
    ("{{ 1 / 0 }}", CHAT, "division by zero"),
    ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", CHAT, "without end"),
    ("{{ range(10 ** 9) }}", CHAT, "Range too big"),
    ("{{ messages.append(1) }}", CHAT, "'append' of 'list' object is unsafe"),
    ("{{ ''.__class__.__mro__[1].__subclasses__() }}", CHAT, "attribute '__class__'"),
    ("{{ cycler.__init__.__globals__.os.popen('id').read() }}", CHAT, "attribute '__init__'"),
])  # fmt: skip
def test_a_chat_that_the_template_refuses_is_told_in_its_words(
    tokenizer: Any, template: str, turns: list[tuple[str, str]], says: str
) -> None:
    with chats(tokenizer, template) as encode, pytest.raises(ValueError, match=says):
        encode({"messages": messages_of(*turns)})


@pytest.mark.parametrize(("row", "says"), [
    ({"messages": []}, "`messages` that are no list"),
    ({"messages": [{"role": "user"}]}, r"no string as `content` \(of message 1\)"),
    ({"messages": [{"role": "user", "content": None}]}, "no string as `content`"),
    ({"messages": ["Hi"]}, "that is no object"),
    ({"text": "Hi"}, "is of the kind text, and the format is chat"),
    ("Hi", "is not a JSON object"),
])  # fmt: skip
def test_rows_of_another_shape_are_refused(tokenizer: Any, row: Any, says: str) -> None:
    with chats(tokenizer, PLAIN) as encode, pytest.raises(ValueError, match=says):
        encode(row)
