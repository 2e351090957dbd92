"""Texts are found wherever they stand in a spec, and told by the pointer to them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from secateur.contract.options.texts import Calibration, LocalText, NamedText, SelfText, UploadText
from secateur.contract.options.training import TrainedRecovery
from secateur.contract.spec import CompressionSpec
from secateur.contract.texts import HEAD_BYTES, not_text, texts_of

ID = "019a0000-0000-7000-8000-000000000001"
LOCAL = {"source": "local", "path": "a.txt"}
UPLOAD = {"source": "upload", "id": ID}
EVERYWHERE = {
    "model": {"source": "local", "path": "model"},
    "scoring": {"criterion": "taylor", "calibration": {"text": LOCAL}},
    "pruning": {"kind": "depth", "blocks": 1},
    "recovery": {"kind": "lora", "text": UPLOAD, "heal": True},
    "quantise": [
        {"kind": "int8"},
        {"kind": "gptq", "calibration": {"text": UPLOAD}},
    ],
    "benchmark": {"perplexity": {"texts": [{"source": "self"}, LOCAL, UPLOAD]}},
    "labels": {"source": "local"},
}


def spec_of(**changes: Any) -> CompressionSpec:
    return CompressionSpec.model_validate({**EVERYWHERE, **changes})


def places(spec: BaseModel, kind: type[BaseModel]) -> set[str]:
    return {pointer for pointer, _ in texts_of(spec, kind)}


def test_each_is_found_with_the_pointer_to_it() -> None:
    spec = spec_of()
    assert places(spec, LocalText) == {"/scoring/calibration/text", "/benchmark/perplexity/texts/1"}
    assert places(spec, UploadText) == {
        "/recovery/text",
        "/quantise/1/calibration/text",
        "/benchmark/perplexity/texts/2",
    }
    assert places(spec, NamedText) == set()
    assert [text.path for _, text in texts_of(spec, LocalText)] == ["a.txt", "a.txt"]


def test_a_part_of_a_spec_is_searched_from_where_it_stands() -> None:
    spec = spec_of()
    assert isinstance(spec.recovery, TrainedRecovery)
    assert texts_of(spec.recovery, UploadText, ("recovery",)) == [("/recovery/text", spec.recovery.text)]
    assert [pointer for pointer, _ in texts_of(spec.quantise, UploadText, ("quantise",))] == [
        "/quantise/1/calibration/text"
    ]
    assert texts_of(spec.recovery.text, UploadText, ("recovery", "text")) == [("/recovery/text", spec.recovery.text)]


def _by_hand(value: Any, kind: type, path: str = "") -> Iterator[str]:
    """The plain search: every field of every value."""
    if isinstance(value, kind):
        yield path
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _by_hand(getattr(value, name), kind, f"{path}/{name}")
    elif isinstance(value, tuple):
        for number, item in enumerate(value):
            yield from _by_hand(item, kind, f"{path}/{number}")


@pytest.mark.parametrize("kind", [LocalText, UploadText, SelfText, NamedText, Calibration])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"recovery": {"kind": "none"}, "quantise": [], "benchmark": {"perplexity": None, "samples": None}},
        {"scoring": {"criterion": "magnitude"}},
        {"recovery": {"kind": "distill", "text": LOCAL, "validation": 0.1}},
    ],
)
def test_what_is_passed_over_holds_none(changes: dict[str, Any], kind: type[BaseModel]) -> None:
    spec = spec_of(**changes)
    assert places(spec, kind) == set(_by_hand(spec, kind))


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"PAR1 and more", "is a Parquet file, which is not read from a data root; upload it"),
        (b"\xff\xfea", "is not UTF-8: it begins with the mark of UTF-16"),
        (b"\xfe\xffa", "is not UTF-8: it begins with the mark of UTF-16"),
        (b"\x1f\x8b\x08", "is compressed with gzip"),
        (b"\x28\xb5\x2f\xfd", "is compressed with zstd"),
        (b"PK\x03\x04\0", "is a ZIP archive"),
        (b"%PDF-1.7", "is a PDF file"),
        (b"version https://git-lfs.github.com", "is a pointer of Git LFS: fetch the file itself with `git lfs pull`"),
        (b"\0text", "is no text: byte 0 is NUL"),
        (b"t" * 1234 + b"\0", "is no text: byte 1,234 is NUL"),
        (b"a text of PAR1 and %PDF", None),
        (b"", None),
    ],
)
def test_files_that_are_no_text_are_told_by_their_first_bytes(head: bytes, what: str | None) -> None:
    assert not_text(head) == what
    assert HEAD_BYTES == 4096
