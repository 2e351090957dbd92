"""The licence that a model's own files tell of, and that nothing which is wrong with them does any harm."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from secateur.contract.results import Licence
from workers.engine.checkpoints.gguf_file import GgufHeader, GgufValue
from workers.engine.checkpoints.licence import licence_of_folder, licence_of_gguf

OWN = Licence(name="other", title="next", link="https://example.org/terms")


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: apache-2.0\ntags: [a]\n---\n# x\n", Licence(name="apache-2.0")),
        ("---\r\nlicense: 'mit' # so\r\n---\r\n", Licence(name="mit")),
        ("\ufeff---\nlicense:\n- llama3.2\n- mit\n---\n", Licence(name="llama3.2")),
        (f"---\nlicense: other\nlicense_name: next\nlicense_link: {OWN.link}\n---\n", OWN),
        ("---\nlicense: other\nlicense_name: {a: b}\n---\n", Licence(name="other")),
        ("# A model\n\n---\nlicense: mit\n---\n", None),
        ("---\nlicense: mit\n", None),
        ("---\nlicense:\n---\n", None),
        ("---\nlicense: []\n---\n", None),
        ("---\nlicense: 3\n---\n", None),
        ("---\n- license\n---\n", None),
        ("---\nlicense: [mit\n---\n", None),
        ("---\na: &a {x: 1}\nb: *a\nlicense: mit\n---\n", None),
        ("---\nlicense: !!python/object:os.system mit\n---\n", None),
        (f"---\nlicense: {'x' * 1000}\n---\n", None),
        (f"---\nlicense: mit\nnote: {'x' * 300_000}\n---\n", None),
        ("---\n" + "[" * 5000, None),
        ("---\nlicense: mit\nnew: !!bool perhaps\n---\n", None),
        ("---\nlicense: mit\nsize: !!int ''\n---\n", None),
        ("---\nlicense: mit\nsize: !!int '_'\n---\n", None),
        ("---\nlicense: mit\ndate: !!timestamp today\n---\n", None),
        ('---\nlicense: "\\ud800"\n---\n', None),
        ('---\nlicense: "mit\\0"\n---\n', None),
        ("---\nlicense: |\n  mit\n  or so\n---\n", Licence(name="mit or so")),
        ("", None),
    ],
)
def test_by_the_card(card: str, licence: Licence | None, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(card, newline="")
    assert licence_of_folder(tmp_path) == licence


def test_a_card_that_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    assert licence_of_folder(tmp_path) is None
    (tmp_path / "README.md").write_bytes(b"---\n\xff\xfe: 1\nlicense: mit\n---\n")
    assert licence_of_folder(tmp_path) == Licence(name="mit")
    (tmp_path / "README.md").unlink()
    (tmp_path / "README.md").mkdir()
    assert licence_of_folder(tmp_path) is None


def test_without_metadata_the_file_of_the_licence_is_named(tmp_path: Path) -> None:
    (tmp_path / "NOTICE").write_text("x")
    assert licence_of_folder(tmp_path) is None
    (tmp_path / "LICENSE.txt").write_text("x")
    assert licence_of_folder(tmp_path) == Licence(name="other", link="LICENSE.txt")


def test_a_name_in_bytes_that_are_no_text_can_be_written(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"LICENSE-\xff")).write_text("x")
    found = licence_of_folder(tmp_path)
    assert found == Licence(name="other", link="LICENSE-?")
    found.model_dump_json()


def test_by_the_keys_of_a_gguf_file() -> None:
    def header(**values: Any) -> GgufHeader:
        found = {f"general.{key}": GgufValue(key, 8, value, 0, 0) for key, value in values.items()}
        return cast("GgufHeader", SimpleNamespace(values=found))

    keys = {"license": "other", "license.name": "next", "license.link": OWN.link}
    assert licence_of_gguf(header(**keys)) == OWN
    assert licence_of_gguf(header(license="apache-2.0", name="x")) == Licence(name="apache-2.0")
    assert licence_of_gguf(header(name="x")) is None
    assert licence_of_gguf(header(license=7)) is None
    assert licence_of_gguf(header(license="mit\x00")) == Licence(name="mit?")  # which a database would refuse
