"""Tokenizer files of every kind of fault: refused by the file's name, before anything is tokenised."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secateur.contract.errors import InvalidInput
from tests.workers.conftest import byte_tokenizer
from workers.engine.text.tokenizer_loading import load_tokenizer

FILE, CONFIG = "tokenizer.json", "tokenizer_config.json"
Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder as far as tokenizers go."""
    path = tmp_path / "model"
    byte_tokenizer(bos=True).save_pretrained(path)
    (path / "config.json").write_text('{"model_type": "llama", "vocab_size": 259}')
    return path


def edit(file: Path, change: Change) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def refused(folder: Path) -> Any:
    with pytest.raises(InvalidInput) as caught:
        load_tokenizer(folder)
    field = caught.value.errors[0]
    assert (field.pointer, field.detail) == ("tokenizer", caught.value.detail)
    assert field.expected
    assert "\n" not in field.detail
    return field


def added(content: str, number: int) -> Change:
    def change(file: dict[str, Any]) -> None:
        file["added_tokens"].append({**file["added_tokens"][0], "content": content, "id": number})

    return change


@pytest.mark.parametrize("change", [
    lambda file: file["model"].update(type="BPE2"),
    lambda file: file.update(model={"type": "Neural", "weights": []}),
    lambda file: file.update(pre_tokenizer={"type": "Newer"}),
    lambda file: file.update(post_processor={"type": "Newer"}),
    lambda file: file.update(decoder={"type": "Newer"}),
    lambda file: file.update(normalizer={"type": "Newer"}),
    lambda file: file.pop("model"),
    lambda file: file["model"]["merges"].append(["x", "yy"]),
    lambda file: file.update(pre_tokenizer={
        "type": "Split", "pattern": {"Regex": "(("}, "behavior": "Isolated", "invert": False}),
    lambda file: file["added_tokens"][0].update(id=-1),
    lambda file: file["added_tokens"][0].pop("content"),
])  # fmt: skip
def test_a_serialised_tokenizer_that_the_library_does_not_know(folder: Path, change: Change) -> None:
    edit(folder / FILE, change)
    field = refused(folder)
    assert field.value == FILE
    assert field.detail.startswith("The model's tokenizer cannot be loaded: tokenizer.json holds what tokenizers ")


@pytest.mark.parametrize(("name", "content", "says"), [
    (FILE, b'{"version": "1.0", "trunc', "is cut off"),
    (FILE, b"", "is cut off"),
    (FILE, b"[]", "holds what tokenizers"),
    (FILE, b'"\xff"', "is not UTF-8"),
    (FILE, b"[" * 100_000, "is nested too deeply"),
    (FILE, b"version https://git-lfs.github.com/spec/v1\noid sha256:5e\nsize 30\n", "pointer of Git LFS"),
    (CONFIG, b'{"a":', "is cut off"),
    (FILE, b"\xef\xbb\xbf{}", "a byte order mark stands before it"),
    (CONFIG, b"\xef\xbb\xbf{}", "a byte order mark stands before it"),
    (CONFIG, b"[1]", "is not a JSON object"),
    ("special_tokens_map.json", b"[1]", "is not a JSON object"),
    ("added_tokens.json", b"[1]", "is not a JSON object"),
    ("chat_template.jinja", b"\xff\xfe", "is not UTF-8"),
])  # fmt: skip
def test_files_that_cannot_be_read(folder: Path, name: str, content: bytes, says: str) -> None:
    (folder / name).write_bytes(content)
    field = refused(folder)
    assert field.value == name
    assert f"{name} " in field.detail
    assert says in field.detail


@pytest.mark.parametrize(("change", "says"), [
    (lambda file: file.update(bos_token=7), "bos_token"),
    (lambda file: file.update(bos_token={"x": 1}), "bos_token"),
    (lambda file: file.update(auto_map={"AutoTokenizer": ["evil.Evil", None]}, tokenizer_class="Evil"),
     "code of the model's own, which is not run"),
])  # fmt: skip
def test_settings_that_the_library_refuses(folder: Path, change: Change, says: str) -> None:
    (folder / "evil.py").write_text("raise SystemExit('this was run')")
    edit(folder / CONFIG, change)
    assert says in refused(folder).detail


@pytest.mark.parametrize(("name", "key", "value", "expected"), [
    (CONFIG, "bos_token", 7, "a token as text, or an object with its text as `content`"),
    (CONFIG, "eos_token", {"content": 5}, "a token as text, or an object with its text as `content`"),
    (CONFIG, "tokenizer_class", ["a"], "the name of a tokenizer class of transformers"),
    (CONFIG, "model_max_length", "x", "a number"),
    (CONFIG, "padding_side", "up", '"left" or "right"'),
    (CONFIG, "added_tokens_decoder", {"1": 5}, "an object with a token for each id, its text as `content`"),
    (CONFIG, "extra_special_tokens", 5, "an array of tokens, or an object of named ones"),
    (CONFIG, "chat_template", [{"name": "a"}], "a template as text, or an array of objects with `name` and `template`"),
    (CONFIG, "split_special_tokens", "x", "true or false"),
    (CONFIG, "model_input_names", 5, "an array of names"),
    ("special_tokens_map.json", "bos_token", 5, "a token as text, or an object with its text as `content`"),
    ("added_tokens.json", "<far>", [1], "the id of the token, a whole number"),
])  # fmt: skip
def test_the_entry_that_is_to_blame_is_named(folder: Path, name: str, key: str, value: Any, expected: str) -> None:
    if not (folder / name).is_file():
        (folder / name).write_text("{}")
    edit(folder / name, lambda file: file.update({key: value}))
    field = refused(folder)
    assert field.detail == f"The model's tokenizer cannot be loaded: `{key}` of {name} cannot be used."
    assert (field.value, field.expected) == (value, expected)


def test_a_number_of_a_hundred_thousand_digits(folder: Path) -> None:
    text = (folder / FILE).read_text()
    (folder / FILE).write_text(text.replace('"id": ', f'"id": {"1" * 100_000}', 1))
    field = refused(folder)
    assert field.value == FILE
    assert f"{FILE} has a number of 100,00" in field.detail
    assert "digits, and at most 4,300 are read, at /added_tokens/0/id." in field.detail


def test_one_that_breaks_at_the_first_text(folder: Path) -> None:
    """The library panics, which is no Exception."""
    edit(folder / FILE, lambda file: file["post_processor"].update(special_tokens={}))
    assert "tokenizer" in refused(folder).detail


@pytest.mark.parametrize(("change", "says"), [
    (added("<twin>", 1), 'gives the tokens "<s>" and "<twin>" the one id 1'),
    (added("<far>", 100_000), 'gives the token "<far>" the id 100,000, which is read as 259'),
])  # fmt: skip
def test_ids_that_collide_or_leave_a_gap(folder: Path, change: Change, says: str) -> None:
    edit(folder / FILE, change)
    field = refused(folder)
    assert says in field.detail
    assert field.value in ("<twin>", "<far>")


def test_a_model_without_one_or_with_another_form_alone(folder: Path) -> None:
    (folder / FILE).unlink()
    (folder / "tokenizer.model").write_bytes(b"\x0a\x0b")
    field = refused(folder)
    assert field.value == "tokenizer.model"
    assert "stands without a tokenizer.json" in field.detail
    for file in folder.glob("*token*"):
        file.unlink()
    assert refused(folder).detail == "The model has no tokenizer."


def test_a_sound_one_is_loaded(folder: Path) -> None:
    edit(folder / FILE, added("<next>", 259))
    tokenizer = load_tokenizer(folder)
    assert tokenizer.convert_tokens_to_ids("<next>") == 259


def test_merges_are_not_left_out_at_random(folder: Path) -> None:
    """`dropout` is for a tokenizer's training; a text is to have the same tokens each time."""

    def with_dropout(content: dict[str, Any]) -> None:
        content["model"] |= {"dropout": 0.5, "merges": [["a", "b"]]}
        content["model"]["vocab"]["ab"] = 259

    edit(folder / FILE, with_dropout)
    assert load_tokenizer(folder)("ab" * 50)["input_ids"] == [1, *[259] * 50]
