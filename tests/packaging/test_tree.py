"""The tree tells where things are: tests lie where their subject lies, the README names all rooms, no file is long."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("secateur", "app", "workers")
OF_NO_PACKAGE = ("e2e", "fixtures", "packaging")  # the whole service, what tests share, how all this is handed out
LONGEST = 400  # lines
NAMES = 24  # columns of the README's tree
IN_DETAIL = Path("secateur/contract")  # the one room whose rooms have lines of their own
MODULES = {path.relative_to(ROOT).with_suffix("") for name in PACKAGES for path in (ROOT / name).rglob("*.py")}
MIRRORS = sorted(
    path.relative_to(ROOT / "tests")
    for path in (ROOT / "tests").rglob("test_*.py")
    if path.relative_to(ROOT / "tests").parts[0] not in OF_NO_PACKAGE
)


@pytest.mark.parametrize("folder", sorted({path.parent for path in MIRRORS}), ids=str)
def test_a_folder_of_tests_is_a_room_or_a_module_with_several_files_of_tests(folder: Path) -> None:
    assert folder / "__init__" in MODULES or folder in MODULES


def test_a_test_that_is_called_as_a_module_lies_where_the_module_lies() -> None:
    """What is called as no module of its package is about several of them, or about one as a whole."""
    homes: dict[tuple[str, str], set[Path]] = {}
    for module in MODULES:
        homes.setdefault((module.parts[0], module.name), set()).add(module.parent)
    named = {path: homes.get((path.parts[0], path.stem.removeprefix("test_"))) for path in MIRRORS}
    assert len([path for path, found in named.items() if found]) > 100
    assert [str(path) for path, found in named.items() if found and path.parent not in found | MODULES] == []


def written() -> dict[Path, str]:
    """Each file and folder of the README's tree with its words, by the indentation."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = text.partition("## Tree\n\n```\n")[2].partition("```")[0]
    found: dict[Path, str] = {}
    above: dict[int, Path] = {}
    for line in tree.splitlines():
        names, words = line[:NAMES].strip(), line[NAMES:].strip()
        depth = len(line) - len(line.lstrip())
        for name in names.split(", "):
            above[depth] = above.get(depth - 2, Path()) / name if depth else Path(name)
            found[above[depth]] = words
    return found


def test_the_readmes_tree_is_the_folders() -> None:
    named = written()
    assert [str(path) for path in named if not (ROOT / path).exists()] == []
    ignored = {line.strip("/") for line in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()}
    top = {Path(path.name) for path in ROOT.iterdir() if path.is_dir() and path.name not in ignored}
    rooms = {module.parent for module in MODULES if module.name == "__init__"}
    rooms = {room for room in rooms if len(room.parts) == 2 or room.parent == IN_DETAIL}
    wanted = {path for path in top | rooms if not path.name.startswith(".")}
    assert sorted(str(path) for path in wanted - set(named)) == []


def test_the_readmes_tree_names_the_rooms_of_the_engine() -> None:
    engine = Path("workers/engine")
    words = set(re.findall(r"\w+", written()[engine]))
    rooms = {module.parent.name for module in MODULES if module.name == "__init__" and module.parent.parent == engine}
    assert len(rooms) > 5
    assert rooms <= words


@pytest.mark.parametrize("folder", [*PACKAGES, "tests", "migrations", "benchmarks", "examples", ".ci"])
def test_no_file_is_long(folder: str) -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / folder).rglob("*.py")}
    assert lengths
    assert {str(path.relative_to(ROOT)): count for path, count in lengths.items() if count > LONGEST} == {}
