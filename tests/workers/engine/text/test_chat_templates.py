"""Templates of strangers: bounded in time and memory, and told as the model's where nothing can be rendered."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from secateur.contract.errors import InvalidInput
from tests.workers.conftest import byte_tokenizer
from workers.engine.text import chat_templates
from workers.engine.text.chat_templates import ChatRenderer, TemplateFault
from workers.engine.text.tokenizer_loading import load_tokenizer

MESSAGES = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


def renderer(template: Any) -> ChatRenderer:
    tokenizer: Any = byte_tokenizer()
    tokenizer.chat_template = template
    return ChatRenderer(tokenizer)


def children() -> int:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:  # noqa: PTH123 - the kernel's
        return len(file.read().split())


@pytest.mark.parametrize(("template", "says"), [
    (ENDLESS, "took more than 0.5 s"),
    ("{{ 10 ** (10 ** 9) }}", "took more than 0.5 s"),
    ("{{ 'a' * 10 ** 10 }}", "more memory"),
    ("{% set ns = namespace(x='a' * 1000000) %}{% for i in range(60000) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
     "more"),
    ("{{ 'a'.center(200000000) }}", "more"),
    ("{{ '%2000000000d' % 1 }}", "more memory"),
    (r"{{ '\ud800' }}", "writes half of a surrogate pair"),
    ("{% if %}", "is no Jinja template: line 1"),
    ("{% for m in messages %}", "is no Jinja template"),
    ("{% import 'x' as y %}{{ y }}", "no loader"),
])  # fmt: skip
def test_what_no_chat_needs_ends_with_the_models_name_on_it(
    monkeypatch: pytest.MonkeyPatch, template: str, says: str
) -> None:
    if "0.5 s" in says:  # what ends by itself may take a busy machine longer
        monkeypatch.setattr(chat_templates, "RENDER_SECONDS", 0.5)
    before = children()
    with renderer(template) as given, pytest.raises((InvalidInput, TemplateFault), match=says) as caught:
        given.render(MESSAGES)
    if isinstance(caught.value, InvalidInput):
        assert caught.value.errors[0].pointer == "model"
        assert caught.value.errors[0].expected
    assert children() == before


def test_it_goes_on_after_a_chat_that_was_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    template = (
        "{% if messages[0].content == 'slow' %}" + ENDLESS + "{% endif %}"
        "{% if messages[0].content == 'bad' %}{{ raise_exception('no') }}{% endif %}{{ messages[0].content }}"
    )
    with renderer(template) as given:
        for said in ("one", "bad", "slow", "two"):
            monkeypatch.setattr(chat_templates, "RENDER_SECONDS", 0.5 if said == "slow" else 20.0)
            message = [{"role": "user", "content": said}]
            if said in ("bad", "slow"):
                with pytest.raises((InvalidInput, TemplateFault)):
                    given.render(message)
            else:
                assert given.render(message).text == said


def test_what_a_template_may_use() -> None:
    template = (
        "{%- for m in messages %}{% if loop.index > 9 %}{% break %}{% endif %}{{ m | tojson }}{% endfor %}"
        "{{ bos_token }}{{ strftime_now('%Y') | length }}{{ dict(a=1).a }}"
        "{% if add_generation_prompt %}!{% endif %}{{ tools is none }}"
    )
    with renderer(template) as given:
        found = given.render([{"role": "user", "content": "ä", "more": None}], prompt=True)
    assert found.text == '{"role": "user", "content": "ä"}<s>41!True'
    assert found.answers == ()


@pytest.mark.parametrize(("template", "pointer", "says"), [
    (None, "format", "no chat template"),
    ({"tool_use": "x", "rag": "y"}, "model", "none that is called default (rag, tool_use)"),
    ("x" * 1_000_001 + "y" * 50_000, "model", "longer than a million"),
])  # fmt: skip
def test_a_model_without_a_template_to_use(template: Any, pointer: str, says: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        renderer(template)
    assert says in caught.value.detail
    assert caught.value.errors[0].pointer == pointer


def test_a_fault_names_the_file_of_the_template(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer(bos=True)
    tokenizer.chat_template = "{% for %}"
    tokenizer.save_pretrained(tmp_path)
    place = "chat_template.jinja"
    assert (tmp_path / place).is_file()
    for name in (place, "`chat_template` of tokenizer_config.json"):
        with ChatRenderer(load_tokenizer(tmp_path)) as given, pytest.raises(InvalidInput) as caught:
            given.render(MESSAGES)
        assert f"The model's chat template ({name}) is no Jinja template: line 1: " in caught.value.detail
        settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": "{{"}))
        (tmp_path / place).unlink(missing_ok=True)


def test_of_several_templates_the_default_one_is_used() -> None:
    with renderer({"tool_use": "tools", "default": "plain"}) as given:
        assert given.render(MESSAGES).text == "plain"
