"""The lock file holds exactly what is installed, and what pyproject.toml pins."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Collection
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PROJECTS = ("secateur/pyproject.toml", "pyproject.toml")
# what a CPU build of torch does not bring, and what builds the project in an environment of its own
NOT_EVERYWHERE = re.compile(
    r"nvidia-.*|cuda-.*|triton|hatchling|editables|trove-classifiers|setuptools|pathspec|pluggy"
)


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert len(pins) == len([line for line in lines if "==" in line])
    return pins


NOT_INSTALLED = {"bitsandbytes"}  # extras that `make install` leaves out


def requirements(*, without: Collection[str] = ()) -> list[Requirement]:
    client, server = (tomllib.loads((ROOT / path).read_text())["project"] for path in PROJECTS)
    extras = [texts for name, texts in server["optional-dependencies"].items() if name not in without]
    texts = [*client["dependencies"], *server["dependencies"], *(text for extra in extras for text in extra)]
    return [Requirement(text) for text in texts if not text.startswith("secateur")]


def test_pyproject_pins_exactly_what_is_locked() -> None:
    pins = locked()
    for requirement in requirements():
        assert str(requirement.specifier) == f"=={pins[normal(requirement.name)]}", requirement


def test_everything_that_the_project_asks_for_is_locked_to_the_end() -> None:
    """Follow the installed packages' own requirements, from the project's: each has its pin, and that version."""
    pins = locked()
    installed: dict[str, Distribution] = {}
    for found in distributions():  # the first of a name is what is imported; setuptools appends copies of its own
        installed.setdefault(normal(found.metadata["Name"]), found)
    todo = [(requirement, frozenset(requirement.extras)) for requirement in requirements(without=NOT_INSTALLED)]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        requirement, extras = todo.pop()
        name = normal(requirement.name)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        assert name in pins, f"{name} is not locked; run make lock"
        assert installed[name].version.split("+")[0] == pins[name], f"{name} is not installed as locked"
        for text in installed[name].requires or ():
            inner = Requirement(text)
            if inner.marker is None or any(inner.marker.evaluate({"extra": extra}) for extra in extras or {""}):
                todo.append((inner, frozenset(inner.extras)))


def test_torch_is_the_plain_release() -> None:
    assert locked()["torch"] == "2.13.0"
    assert all("+" not in version for version in locked().values())
    assert sys.version_info >= (3, 11)


def test_nothing_is_locked_that_nobody_asks_for() -> None:
    installed = {normal(found.metadata["Name"]) for found in distributions()}
    assert {name for name in locked() if not NOT_EVERYWHERE.fullmatch(name)} - installed == NOT_INSTALLED
