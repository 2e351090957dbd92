"""What is written is whole or not there, and a failure leaves what was there before."""

from __future__ import annotations

from pathlib import Path

import pytest

from secateur.whole_files import whole_file, whole_folder, write_whole


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def written_then_broken(path: Path) -> None:
    path.write_text("half")
    raise OSError("the disk lies")


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_a_file_takes_its_name_at_the_end(tmp_path: Path, shared: bool, durable: bool) -> None:
    target = tmp_path / "new" / "a.json"
    with whole_file(target, shared=shared, durable=durable) as part:
        part.write_text("first")
        assert not target.exists()
        assert part.parent == target.parent
    write_whole(target, "ü", shared=shared, durable=durable)
    assert target.read_bytes() == "ü".encode()
    write_whole(target, b"\xff", shared=shared, durable=durable)
    assert target.read_bytes() == b"\xff"
    assert names(target.parent) == ["a.json"]


@pytest.mark.parametrize("shared", [False, True])
def test_a_failure_leaves_what_was_there(tmp_path: Path, shared: bool) -> None:
    target = tmp_path / "a.json"
    write_whole(target, "first")
    with pytest.raises(OSError, match="lies"), whole_file(target, shared=shared) as part:
        written_then_broken(part)
    assert target.read_text() == "first"
    assert names(tmp_path) == ["a.json"]


def test_shared_writers_do_not_meet(tmp_path: Path) -> None:
    target = tmp_path / "a"
    with whole_file(target, shared=True) as one, whole_file(target, shared=True) as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert target.read_text() == "one"  # the outer block ends last


def test_a_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "model"
    (tmp_path / "model.part").mkdir()
    (tmp_path / "model.part" / "of a killed process").touch()
    for name in ("first", "second"):
        with whole_folder(target) as part:
            (part / name).touch()
        assert names(target) == [name]
    with pytest.raises(OSError, match="lies"), whole_folder(target) as part:
        written_then_broken(part / "third")
    assert names(target) == ["second"]
    assert names(tmp_path) == ["model"]
