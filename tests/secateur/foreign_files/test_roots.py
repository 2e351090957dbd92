"""Paths that users name, under the roots or not."""

from __future__ import annotations

from pathlib import Path

import pytest

from secateur.foreign_files.roots import Fault, NotUnderRoots, find_under, lies_under


@pytest.fixture
def roots(tmp_path: Path) -> list[Path]:
    for name in ("one", "two", "elsewhere"):
        (tmp_path / name / "folder").mkdir(parents=True)
    (tmp_path / "two" / "file").touch()
    (tmp_path / "elsewhere" / "secret").touch()
    (tmp_path / "one" / "link out").symlink_to(tmp_path / "elsewhere" / "secret")
    (tmp_path / "one" / "link in").symlink_to(tmp_path / "two" / "file")
    (tmp_path / "one" / "loop").symlink_to(tmp_path / "one" / "loop")
    (tmp_path / "a root by a link").symlink_to(tmp_path / "two")
    return [tmp_path / "one", tmp_path / "a root by a link"]


def test_what_is_found(roots: list[Path], tmp_path: Path) -> None:
    file = tmp_path / "two" / "file"
    assert find_under("file", roots) == file
    assert find_under(str(file), roots) == file
    assert find_under("link in", roots) == file
    assert find_under("folder", roots) == tmp_path / "one" / "folder"  # the first root that has it
    assert find_under("folder", roots, fits=Path.is_dir) == tmp_path / "one" / "folder"
    assert find_under("folder/..", roots) == tmp_path / "one"


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("link out", Fault.MISSING),  # from one root it leads out, under the other there is none
        ("../elsewhere/secret", Fault.OUTSIDE),
        ("/etc/passwd", Fault.OUTSIDE),
        ("one", Fault.MISSING),
        ("nothing", Fault.MISSING),
        ("loop", Fault.UNUSABLE),
        ("a\0b", Fault.UNUSABLE),
        ("x" * 5000, Fault.UNUSABLE),
    ],
)
def test_what_is_refused(roots: list[Path], path: str, fault: Fault) -> None:
    with pytest.raises(NotUnderRoots) as caught:
        find_under(path, roots)
    assert caught.value.fault is fault


def test_a_link_that_leads_out_is_outside(roots: list[Path]) -> None:
    for path in ("link out", str(roots[0] / "link out")):
        with pytest.raises(NotUnderRoots) as caught:
            find_under(path, roots[:1])
        assert caught.value.fault is Fault.OUTSIDE


def test_it_must_be_what_was_meant(roots: list[Path]) -> None:
    with pytest.raises(NotUnderRoots) as caught:
        find_under("folder", roots, fits=Path.is_file)
    assert caught.value.fault is Fault.MISSING


def test_without_roots_nothing_is_inside() -> None:
    with pytest.raises(NotUnderRoots) as caught:
        find_under("/etc/passwd", [])
    assert caught.value.fault is Fault.OUTSIDE


def test_links_are_followed(roots: list[Path]) -> None:
    assert lies_under(roots[0] / "link in", roots)
    assert not lies_under(roots[0] / "link out", roots)
