"""Slices of files, and what goes wrong with texts."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from app.domain.options import HubText, LocalText
from app.errors import InvalidInput, Unavailable
from workers.engine.texts import find_text_file, hub_revision, read_hub, read_local

POINTER = "/recovery/text"


def slice_of(path: Path, start: float = 0.0, stop: float = 1.0) -> str:
    return read_local(LocalText(source="local", path=path.name, start=start, stop=stop), [path.parent], pointer=POINTER)


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
    assert caught.value.errors[0].pointer == "/recovery/text/path"


@pytest.mark.parametrize("name", ["../secret.txt", "absent.txt", "link.txt", "."])
def test_a_file_outside_the_roots_is_not_found(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(InvalidInput, match="no text file") as caught:
        find_text_file(LocalText(source="local", path=name), [root], pointer=POINTER)
    assert caught.value.errors[0].value == name


def test_an_absolute_path_under_a_root_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("x")
    assert find_text_file(LocalText(source="local", path=str(path)), [tmp_path], pointer=POINTER) == path.resolve()


def test_a_hub_that_does_not_answer_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi.endpoint", "http://127.0.0.1:9", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match="The hub cannot be reached for the data set a/b") as caught:
        hub_revision(HubText(source="hub", id="a/b"), pointer=POINTER)
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
    commit = hub_revision(text, pointer=POINTER)  # and no hub was asked
    assert commit == "c" * 40
    with pytest.raises(InvalidInput, match="has no revision cccc") as caught:
        next(read_hub(text, revision=commit, pointer=POINTER))
    assert caught.value.errors[0].pointer == "/recovery/text/revision"
