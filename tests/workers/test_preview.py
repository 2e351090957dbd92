"""Rows as a model sees them: the very tokens that a training would have, told as text."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from secateur.contract.errors import BadCheckpoint, InvalidInput
from tests.fixtures.text_sources import text_source
from tests.fixtures.tiny_gguf import write_tiny_gguf
from tests.fixtures.tokenizers import byte_fallback, write_model
from workers import preview
from workers.engine.recovery.instruction_data import encoder_of

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '</s>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CHAT = {"messages": [{"role": "user", "content": "the river"}, {"role": "assistant", "content": "the mill"}]}
ALPACA = {"instruction": "Name it.", "output": "the mill"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_model(tmp_path_factory.mktemp("models") / "model", byte_fallback())
    (folder / "chat_template.jinja").write_text(CHATML)
    return folder


def seen(model: Path, kind: str, *rows: Any, characters: int = 1000) -> list[dict[str, Any]]:
    return preview.seen(model=str(model), roots=[str(model.parent)], kind=kind, rows=rows, characters=characters)


def test_a_chat_is_seen_after_the_models_template(model: Path) -> None:
    (row,) = seen(model, "chat", CHAT)
    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    text = tokenizer.apply_chat_template(CHAT["messages"], tokenize=False)
    assert "".join(part["text"] for part in row["parts"]) == text
    assert [part["text"] for part in row["parts"] if part["learnt"]] == ["the mill</s>\n"]
    assert row["tokens"] == len(tokenizer(text, add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize(("kind", "row"), [("chat", CHAT), ("alpaca", ALPACA)])
def test_what_is_counted_is_what_a_training_has(model: Path, tmp_path: Path, kind: str, row: Any) -> None:
    source = text_source(model, roots=[], cache=tmp_path)
    with ExitStack() as stack:
        example = encoder_of(source, preview._ANY_UPLOAD, format=kind, bos="auto", stack=stack)(row)
    (found,) = seen(model, kind, row)
    assert (found["tokens"], found["learnt"]) == (len(example.ids), sum(example.answer))


def test_a_plain_text_begins_as_the_tokenizer_begins_texts_and_is_learnt_whole(model: Path) -> None:
    (row,) = seen(model, "text", {"text": "the river runs"})
    assert "".join(part["text"] for part in row["parts"]) == "<s>the river runs"
    assert row["tokens"] == row["learnt"] > 3


def test_a_long_text_is_cut_and_its_tokens_are_all_counted(model: Path) -> None:
    short, long = seen(model, "text", {"text": "the river " * 2}, {"text": "the river " * 40}, characters=30)
    assert (short["cut"], long["cut"]) == (False, True)
    assert sum(len(part["text"]) for part in long["parts"]) == 30
    assert long["tokens"] > 10 * short["tokens"]


def test_what_one_row_is_refused_for_is_told_of_it_alone(model: Path) -> None:
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}" + CHATML
    (model / "chat_template.jinja").write_text(template)
    try:
        bad, good = seen(model, "chat", {"messages": [{"role": "system", "content": "Be brief."}]}, CHAT)
    finally:
        (model / "chat_template.jinja").write_text(CHATML)
    assert "no system here" in bad["problem"]
    assert good["tokens"] > 0


def test_a_model_without_a_template_takes_no_chats(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", byte_fallback())
    with pytest.raises(InvalidInput, match="no chat template"):
        seen(model, "chat", CHAT)


def test_no_file_outside_the_roots_is_read(tmp_path: Path) -> None:
    model = write_model(tmp_path / "roots" / "model", byte_fallback())
    (model / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    (model / "tokenizer.json").symlink_to(tmp_path / "tokenizer.json")
    with pytest.raises(BadCheckpoint):
        seen(model, "text", {"text": "a"})


def test_a_gguf_file_is_seen_through_its_own_tokenizer(tmp_path: Path) -> None:
    original = write_model(tmp_path / "model", byte_fallback())
    file = write_tiny_gguf(tmp_path / "model.gguf", AutoModelForCausalLM.from_pretrained(original))
    (row,) = seen(file, "text", {"text": "ab"})
    assert "ab" in "".join(part["text"] for part in row["parts"])
