"""Slices of files, and what goes wrong with texts."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from secateur.contract.errors import InvalidInput, Unavailable
from secateur.contract.options.texts import HubText, LocalText
from workers.engine.text.sources import (
    find_text_file,
    hash_local,
    hub_revision,
    local_documents,
    local_pieces,
    local_rows,
    read_hub,
    verify_local,
)

POINTER = "text"


def slice_of(path: Path, start: float = 0.0, stop: float = 1.0) -> str:
    text, roots = LocalText(source="local", path=path.name, start=start, stop=stop), [path.parent]
    sha256 = hash_local(text, roots, rows=False)
    found = "".join(local_pieces(text, roots, most=7))
    verify_local(text, roots, rows=False, sha256=sha256)
    return found


@pytest.mark.parametrize("content", ["one\ntwo\nthree\nfour\n" * 50, "ohne Umbruch: äöü€𝄞 " * 40, "a", "\n\n\n"])
@pytest.mark.parametrize("cuts", [(0.5,), (0.1, 0.37, 0.9), (0.33, 0.331, 0.999)])
def test_slices_that_touch_are_disjoint_and_make_the_whole(
    tmp_path: Path, content: str, cuts: tuple[float, ...]
) -> None:
    path = tmp_path / "text.txt"
    path.write_text(content)
    edges = [0.0, *cuts, 1.0]
    assert "".join(slice_of(path, a, b) for a, b in pairwise(edges)) == content


def test_a_slice_begins_at_the_start_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("first line\nsecond line\nthird line\n")
    assert slice_of(path, 0.1) == "second line\nthird line\n"


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbfhello")
    assert slice_of(path) == "hello"


def test_text_that_is_not_utf8_is_refused_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"good \xff bad")
    with pytest.raises(InvalidInput, match="byte 5 cannot be decoded") as caught:
        slice_of(path)
    assert caught.value.errors[0].pointer == "text/path"


@pytest.mark.parametrize("name", ["../secret.txt", "absent.txt", "link.txt", "."])
def test_a_file_outside_the_roots_is_not_found(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(InvalidInput, match="no text file") as caught:
        find_text_file(LocalText(source="local", path=name), [root])
    assert caught.value.errors[0].value == name


def test_an_absolute_path_under_a_root_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("x")
    assert find_text_file(LocalText(source="local", path=str(path)), [tmp_path]) == path.resolve()


def test_a_hub_that_does_not_answer_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi.endpoint", "http://127.0.0.1:9", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match="The hub cannot be reached for the data set a/b") as caught:
        hub_revision(HubText(source="hub", id="a/b"))
    assert "\n" not in caught.value.detail


def test_a_commit_is_taken_at_its_word_and_missed_when_rows_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client wraps what the hub said of the commit."""
    import httpx2
    from huggingface_hub.errors import RevisionNotFoundError

    class DatasetNotFoundError(FileNotFoundError):
        pass

    def missing(*_: object, **__: object) -> None:
        response = httpx2.Response(404, request=httpx2.Request("GET", "http://hub/api/datasets/a/b"))
        raise DatasetNotFoundError("no") from RevisionNotFoundError("no such revision", response=response)

    monkeypatch.setattr("datasets.load_dataset", missing)
    text = HubText(source="hub", id="a/b", revision="c" * 40)
    commit = hub_revision(text)  # and no hub was asked
    assert commit == "c" * 40
    with pytest.raises(InvalidInput, match="has no revision cccc") as caught:
        next(read_hub(text, revision=commit))
    assert caught.value.errors[0].pointer == "text/revision"


def test_a_folder_that_is_called_like_a_data_set_is_not_read_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client would take it before it asks a hub, and it lies under no data root."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "train.txt").write_text("a secret\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("datasets.config.HF_ENDPOINT", "http://127.0.0.1:9")
    text = HubText(source="hub", id="a/b", revision="c" * 40)
    with pytest.raises(Unavailable, match="The hub cannot be reached for the data set a/b"):
        list(read_hub(text, revision="c" * 40))


def broken_set(folder: Path, fault: str) -> tuple[str, str]:
    """A builder of `datasets` and a file for it that it cannot read."""
    content: dict[str, tuple[str, bytes]] = {
        "cut off": ("rows.jsonl", b'{"text": "a"}\n{"text": "b'),
        "not UTF-8": ("rows.jsonl", b'{"text": "a\xff"}\n'),
        "not compressed": ("rows.json.gz", b"\x1f\x8bnope"),
        "no Parquet": ("rows.parquet", b"PAR1 nope PAR1"),
        "no CSV": ("rows.csv", b'a,b\n1,2,3,4\n"x'),
    }
    name, raw = content[fault]
    (folder / name).write_bytes(raw)
    kind = "json" if ".json" in name else name.rpartition(".")[2]
    return kind, str(folder / name)


@pytest.mark.parametrize("fault", ["cut off", "not UTF-8", "not compressed", "no Parquet", "no CSV"])
def test_files_of_a_hub_data_set_that_cannot_be_read_are_the_data_sets_fault(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `datasets` raises over such a file is left to it; no hub is asked, and none is blamed."""
    import datasets  # type: ignore[import-untyped]  # ships no annotations

    kind, file = broken_set(tmp_path, fault)
    load = datasets.load_dataset
    monkeypatch.setattr(
        "datasets.load_dataset", lambda *_, **__: load(kind, data_files=file, split="train", streaming=True)
    )
    text = HubText(source="hub", id="a/b", revision="c" * 40)
    with pytest.raises(InvalidInput, match="The data set a/b cannot be read: ") as caught:
        list(read_hub(text, revision="c" * 40))
    assert caught.value.errors[0].pointer == "text/id"
    assert caught.value.errors[0].value == "a/b"


@pytest.mark.parametrize(
    ("fault", "field", "words"),
    [
        ("Bad split: train. Available splits: ['test']", "split", "Available splits"),
        ("BuilderConfig 'x' not found. Available: ['y']", "config", "Available"),
        ("Config name is missing. Please pick one", "config", "pick one"),
        ("something else", "id", "something else"),
    ],
)
def test_the_field_that_a_message_is_about_is_named(
    fault: str, field: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError(fault)

    monkeypatch.setattr("datasets.load_dataset", refuse)
    with pytest.raises(InvalidInput, match=words) as caught:
        list(read_hub(HubText(source="hub", id="a/b"), revision="c" * 40))
    assert caught.value.errors[0].pointer == f"text/{field}"


def test_a_hub_that_breaks_off_while_rows_are_read_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(*_: object, **__: object) -> Iterator[dict[str, str]]:
        yield {"text": "one"}
        try:
            raise ConnectionResetError("reset by peer")
        except ConnectionResetError as error:
            raise RuntimeError("an error occurred while generating the data set") from error

    monkeypatch.setattr("datasets.load_dataset", rows)
    with pytest.raises(Unavailable, match=r"cannot be reached for the data set a/b \(ConnectionResetError\)"):
        list(read_hub(HubText(source="hub", id="a/b"), revision="c" * 40))


def test_a_full_disk_while_rows_are_read_is_nobodys_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("datasets.load_dataset", full)
    with pytest.raises(OSError, match="No space left"):
        list(read_hub(HubText(source="hub", id="a/b"), revision="c" * 40))


# --- files of JSON -----------------------------------------------------------------------------------------------


def rows_of(folder: Path, name: str, start: float = 0.0, stop: float = 1.0) -> list[tuple[int, Any]]:
    text = LocalText(source="local", path=name, start=start, stop=stop)
    return list(local_rows(text, [folder]))


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
def test_rows_that_are_longer_than_a_look_are_cut_at_a_rows_start(tmp_path: Path, name: str) -> None:
    rows = [{"text": f"{number} " + "word " * 34_000} for number in range(6)]
    lines = [json.dumps(row) for row in rows]
    (tmp_path / name).write_text("\n".join(lines) if name.endswith("l") else f"[{', '.join(lines)}]")
    assert rows_of(tmp_path, name, 0.55) == [(5, rows[4]), (6, rows[5])]
    edges = [0.0, 0.1, 0.55, 0.56, 0.9, 1.0]
    assert [row for a, b in pairwise(edges) for row in rows_of(tmp_path, name, a, b)] == list(enumerate(rows, start=1))


def test_a_file_of_json_gives_the_texts_of_its_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "one"}\n\n{"text": "two", "more": 1}\n')
    text = LocalText(source="local", path="rows.jsonl")
    assert list(local_documents(text, [tmp_path])) == ["one", "two"]
    (tmp_path / "rows.jsonl").write_text('{"text": "one"}\n\n{"instruction": "a", "output": "b"}\n')
    with pytest.raises(InvalidInput, match=r'Row 3 of "rows.jsonl" is of the kind alpaca') as caught:
        list(local_documents(text, [tmp_path]))
    assert caught.value.errors[0].pointer == POINTER


@pytest.mark.parametrize(("content", "says"), [
    ("text".encode("utf-16"), "the mark of UTF-16"),
    (b"a" * (1 << 20) + b"b\0c", "byte 1,048,577 is NUL"),
    (b"PAR1" + b"\0" * 40, "is a Parquet file"),
    (b"\x1f\x8b\x08\x00", "compressed with gzip"),
    (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
    ("ä".encode() * (1 << 19) + "ä".encode()[:1], "byte 1,048,576 cannot be decoded"),
    (b"x" + "ä".encode() * (1 << 19) + b"\xff", "byte 1,048,577 cannot be decoded"),
])  # fmt: skip
def test_what_is_no_text_is_refused_wherever_it_stands(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "file.txt").write_bytes(content)
    text = LocalText(source="local", path="file.txt")
    with pytest.raises(InvalidInput, match=says) as caught:
        hash_local(text, [tmp_path], rows=False)
    if content[:1] != b"a" and len(content) < 100:  # and so are rows, by the file's beginning
        with pytest.raises(InvalidInput, match=says):
            hash_local(text.model_copy(update={"start": 0.5}), [tmp_path], rows=True)
    field = caught.value.errors[0]
    assert (field.pointer, field.value, field.expected) == ("text/path", "file.txt", "a text file in UTF-8")


def test_a_part_of_a_long_text_is_taken_all_over_it(tmp_path: Path) -> None:
    lines = [f"line {number:05d}\n" for number in range(10_000)]
    (tmp_path / "file.txt").write_text("".join(lines))
    text = LocalText(source="local", path="file.txt", start=0.5)
    found = "".join(local_pieces(text, [tmp_path], most=100, enough=6400)).splitlines(keepends=True)
    assert set(found) <= set(lines[5000:])
    assert found == sorted(set(found))
    assert (found[0], len(found)) == (lines[5000], 640)
    assert found[-1] > lines[9900]
    whole = "".join(local_pieces(text, [tmp_path], most=100, enough=1 << 20))
    assert whole == "".join(lines[5000:])
