"""Local texts as the API host sees them: what is no text is told before a job is taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.services.check_spec import check_spec
from app.settings import Settings
from secateur.contract.errors import InvalidInput
from secateur.contract.spec import CompressionSpec


@pytest.mark.parametrize(("content", "says"), [
    (b"PAR1\x15\x04", "is a Parquet file, which is not read from a data root; upload it"),
    ("text".encode("utf-16"), "is not UTF-8: it begins with the mark of UTF-16"),
    (b"\x1f\x8b\x08\x00", "is compressed with gzip"),
    (b"version https://git-lfs.github.com/spec/v1\noid", "is a pointer of Git LFS"),
    (b"ab\0cd", "is no text: byte 2 is NUL"),
    (b"", "is empty"),
    (None, "is no file"),
    (b"Once upon a time", None),
    (b'\xef\xbb\xbf[{"text": "a"}]', None),
])  # fmt: skip
def test_the_beginning_of_a_text_is_looked_at(tmp_path: Path, content: bytes | None, says: str | None) -> None:
    path = tmp_path / "words.txt"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    calibration = {"text": {"source": "local", "path": "words.txt"}}
    spec = CompressionSpec.model_validate({
        "model": {"source": "hub", "id": "a/b"},
        "scoring": {"criterion": "perplexity", "calibration": calibration},
        "pruning": {"kind": "depth", "blocks": 1},
    })  # fmt: skip
    settings = Settings(data_roots=(tmp_path,))
    if says is None:
        check_spec(spec, settings)
        return
    with pytest.raises(InvalidInput) as caught:
        check_spec(spec, settings)
    (field,) = caught.value.errors
    assert (field.pointer, field.value) == ("/scoring/calibration/text/path", "words.txt")
    assert says in field.detail
