"""Names, version and install line are said once, in secateur/about.py; whoever repeats them is held to the letter."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

import secateur
from app.main import create_app
from app.settings import Settings
from secateur.about import ADDRESS, CLIENT, INSTALL, SERVER, VERSION, install_with

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "secateur" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = [
    *sorted(path for path in (ROOT / "examples").iterdir() if path.is_file()),
    *(ROOT / "action.yml", ROOT / "templates" / "gate.yml"),
]
TEXTS = {path: path.read_text(encoding="utf-8") for path in (*PAGES, *EXAMPLES)}


def project(path: str) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / path).read_text())["project"]
    return found


def test_both_distributions_have_the_one_version() -> None:
    assert version(CLIENT) == version(SERVER) == secateur.__version__ == VERSION
    for path, name in (("secateur/pyproject.toml", CLIENT), ("pyproject.toml", SERVER)):
        assert project(path)["name"] == name
        assert project(path)["dynamic"] == ["version"]
    assert create_app(Settings()).version == VERSION


def test_the_server_needs_the_client_of_its_own_version() -> None:
    ours = [text for text in project("pyproject.toml")["dependencies"] if text.startswith(CLIENT)]
    assert ours == [f"{CLIENT}=={VERSION}"]


def test_wheels_are_called_by_the_version() -> None:
    """`secateur_client-1.2.3-py3-none-any.whl`, wherever a page names the file."""
    named = {found for text in TEXTS.values() for found in re.findall(r"secateur_\w+-[\w.]+?-py3-none-any\.whl", text)}
    stems = [name.replace("-", "_") for name in (CLIENT, SERVER)]
    assert named
    assert named <= {f"{stem}-{VERSION}-py3-none-any.whl" for stem in stems}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_whoever_installs_the_client_from_an_address_has_the_one_line(path: Path) -> None:
    lines = [line for line in TEXTS[path].splitlines() if "install" in line and re.search(rf"{CLIENT}\W*@", line)]
    assert [line for line in lines if INSTALL not in line] == []
    if lines:
        assert ADDRESS in TEXTS[path].replace(INSTALL, "")  # it is said where the address comes from


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_an_extra_of_the_client_is_installed_by_the_same_line(path: Path) -> None:
    extras = set(project("secateur/pyproject.toml")["optional-dependencies"])
    for line in TEXTS[path].splitlines():
        for extra in re.findall(rf"{CLIENT}\[(\w+)\]\W*@", line):
            assert extra in extras
            assert install_with(extra) in line


def test_pipelines_and_pages_have_the_line() -> None:
    having = {path.name for path, text in TEXTS.items() if INSTALL in text}
    assert having >= {"gate.yml", "gate-in-ci.md", "install.md"}


def test_the_pipelines_run_the_line() -> None:
    _, component = yaml.safe_load_all(TEXTS[ROOT / "templates" / "gate.yml"])
    assert INSTALL in next(iter(component.values()))["script"]


def test_the_action_installs_the_client_that_lies_beside_it() -> None:
    """By its path: a name would be looked up on an index."""
    install = yaml.safe_load(TEXTS[ROOT / "action.yml"])["runs"]["steps"][0]["run"]
    assert install.count("$GITHUB_ACTION_PATH") == 2
    assert '"$GITHUB_ACTION_PATH/secateur${extras:+[$extras]}"\n' in install
    assert CLIENT not in install.replace("/secateur-client", "")


def test_the_examples_use_what_the_repository_has() -> None:
    example = yaml.safe_load(TEXTS[ROOT / "examples" / "github-actions.yml"])
    gate = example["jobs"]["gate"]["steps"][0]
    assert re.fullmatch(r"OWNER/secateur@[0-9a-f]{40}", gate["uses"])
    action = yaml.safe_load(TEXTS[ROOT / "action.yml"])
    assert set(gate["with"]) <= set(action["inputs"])
    assert {name for name, declared in action["inputs"].items() if declared.get("required")} <= set(gate["with"])
    (included,) = yaml.safe_load(TEXTS[ROOT / "examples" / "gitlab-ci.yml"])["include"]
    inputs, _ = yaml.safe_load_all(TEXTS[ROOT / "templates" / "gate.yml"])
    assert re.fullmatch(r".*/OWNER/secateur/gate@[0-9a-f]{40}", included["component"])
    assert set(included["inputs"]) <= set(inputs["spec"]["inputs"])
