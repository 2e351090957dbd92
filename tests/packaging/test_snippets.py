"""Every snippet of the pages is right: what is typed exists, and what is sent is what the service takes.

Nothing is run here that takes long: a command line is parsed by the command itself, `submit` as far as its spec, a body
is held against the class that the service reads it with. The README's commands are run by tests/e2e/test_readme.py, and
the programs in Python by tests/e2e/test_use_from_python.py.
"""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from typer import Context
from typer.main import get_command
from typer.testing import CliRunner

from app.main import create_app
from app.settings import Settings
from secateur.cli.main import app as secateur
from secateur.contract.questions import Question
from secateur.contract.spec import CompressionSpec
from secateur.contract.sweep import SweepSpec
from tests.e2e.test_use_from_python import PAGES as PROGRAMS_RUN
from tests.fixtures.processes import free_port

ROOT = Path(__file__).resolve().parents[2]
FOR_PEOPLE = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "secateur" / "README.md"]
PAGES = [*FOR_PEOPLE, *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
ANY_MODEL = {"source": "hub", "id": "org/model"}
ANY_PRUNING = {"kind": "depth", "blocks": 6}
BODIES: dict[str, type[BaseModel]] = {
    "/jobs": CompressionSpec,
    "/estimates": CompressionSpec,
    "/sweeps": SweepSpec,
    "/jobs/{job_id}/answers": Question,
}
STAND_INS = {
    **dict.fromkeys(("JOB", "$job", "$sweep"), "@last"),
    "alpaca.jsonl": str(ROOT / "README.md"),  # a file that is there
}
OF_NO_SETTING = {"SECATEUR_URL", "SECATEUR_API_KEY", "SECATEUR_PACKAGE"}  # the client's own, and a pipeline's


def blocks(page: Path, *languages: str) -> list[str]:
    found = FENCE.findall(page.read_text(encoding="utf-8"))
    return [text for language, text in found if language in languages]


# --- what is typed ------------------------------------------------------------------------------------------------


def commands(block: str) -> Iterator[list[str]]:
    """The words of each command of a shell's block; of `name=$(command)` those of the command."""
    text = re.sub(r"(?m)(^|\s)#.*$", "", block.replace("\\\n", " "))
    text = re.sub(r"(?m)^\w+=\$\((.*)\)$", r"\1", text)
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";|&\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
    words: list[str] = []
    for word in [*lexer, "\n"]:
        if not set(word) <= set(";|&\n"):
            words.append(word)
            continue
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):  # an environment for this one command
            words.pop(0)
        if words:
            yield [words[0].removeprefix(".venv/bin/").rsplit("/", 1)[-1], *words[1:]]
        words = []


def check_secateur(words: list[str]) -> None:
    """Parsed by the command itself; of `submit`, the spec is checked too."""
    if words[:1] == ["submit"]:
        dead = f"http://127.0.0.1:{free_port()}"
        done = CliRunner().invoke(secateur, ["--url", dead, *words, "--dry-run"])
        assert done.exit_code in (0, None), (words, done.output)
        return
    command, name = get_command(secateur), "secateur"
    context = Context(command, info_name=name)
    while hasattr(command, "commands"):
        name, *words = words
        command = command.commands[name]
        context = Context(command, info_name=name, parent=context)
    command.make_context(name, [STAND_INS.get(word, word) for word in words], parent=context)


def check_curl(words: list[str]) -> None:
    url = next(word for word in words if re.match(r"(https?://|\$)", word))
    method = words[words.index("-X") + 1] if "-X" in words else "POST" if {"-d", "-F"} & set(words) else "GET"
    path = re.sub(r"^(https?://[^/]+|\$\w+)", "", url).partition("?")[0]
    operation = check_operation(method, path)
    if "-d" in words:
        BODIES[operation].model_validate_json(words[words.index("-d") + 1])


def check_make(words: list[str]) -> None:
    known = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))
    assert {word for word in words if "=" not in word} <= known, words


def check_python(words: list[str]) -> None:
    """A program of the repository: it is there, and it or what it imports names each option."""
    if words[:1] == ["-m"]:  # venv
        return
    program = ROOT / words[0]
    text = "".join(path.read_text(encoding="utf-8") for path in (program, *program.parent.glob("_*.py")))
    options = {option for word in words[1:] for option in re.findall(r"(?<![\w-])--[a-z-]+", word)}
    assert [option for option in options if f'"{option}"' not in text] == [], words


def check_pip(words: list[str]) -> None:
    extras = set()
    for place in (".", "secateur"):
        project = tomllib.loads((ROOT / place / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        extras |= {f"{'./' if place != '.' else ''}{place}[{extra}]" for extra in project["optional-dependencies"]}
    for word in words[1:]:
        if word.startswith(".") and not word.endswith(".whl"):
            folder, _, asked = word.removesuffix("]").partition("[")
            assert (ROOT / folder / "pyproject.toml").is_file(), word
            assert not asked or {f"{folder}[{extra}]" for extra in asked.split(",")} <= extras, word
    if "-c" in words:
        assert (ROOT / words[words.index("-c") + 1]).is_file()


def check_docker(words: list[str]) -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    profiles = {profile for service in services.values() for profile in service.get("profiles", ())}
    asked = dict(pairwise(words))
    assert asked.get("--profile") in {None, *profiles}
    assert "--scale" not in asked or asked["--scale"].partition("=")[0] in services


def check_systemctl(words: list[str]) -> None:
    for unit in words[1:]:
        assert unit.startswith("--") or (ROOT / "deploy" / "systemd" / f"{unit}.service").is_file(), unit


def check_cp(words: list[str]) -> None:
    assert list(ROOT.glob(words[0])), words


def of_the_system(_: list[str]) -> None:
    """Nothing of this project is named in it but what other checks see."""


PROGRAMS: dict[str, Callable[[list[str]], None]] = {
    "secateur": check_secateur,
    "curl": check_curl,
    "make": check_make,
    "python": check_python,
    "python3": check_python,
    "pip": check_pip,
    "docker": check_docker,
    "systemctl": check_systemctl,
    "cp": check_cp,
    **dict.fromkeys(("export", "useradd", "install", "pg_dump", "pg_restore", "jq", "xargs"), of_the_system),
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_is_typed_exists(page: Path) -> None:
    for block in blocks(page, "sh", "console", "bash"):
        for program, *words in commands(block):
            PROGRAMS[program](words)
        named = set(re.findall(r"\bSECATEUR_[A-Z_]+", block)) - OF_NO_SETTING
        assert {name.removeprefix("SECATEUR_").lower() for name in named} <= set(Settings.model_fields), block


# --- what is sent -------------------------------------------------------------------------------------------------


@cache
def operations() -> list[tuple[str, str]]:
    """Method and path of each."""
    paths = create_app(Settings()).openapi()["paths"]
    return [(method.upper(), path) for path, item in paths.items() for method in item]


def check_operation(method: str, path: str) -> str:
    """It exists; its path as the API has it."""
    parts = path.rstrip("/").split("/")

    def fits(known: list[str]) -> bool:
        if known[-1] == "{path}":  # which is of several parts
            return len(parts) >= len(known) and all(map(alike, known[:-1], parts))
        return len(known) == len(parts) and all(map(alike, known, parts))

    def alike(known: str, part: str) -> bool:
        return known == part or (known.startswith("{") and (part[:1] in "{$" or part.isupper() or "…" in part))

    found = [known for kind, known in operations() if kind == method and fits(known.split("/"))]
    assert found, (method, path)
    return found[0]


def check_spec(part: dict[str, Any]) -> None:
    """A spec, or a part of one, to which model and pruning are added."""
    pruned = part if "pruning" in part else {**part, "pruning": ANY_PRUNING}
    CompressionSpec.model_validate({"model": ANY_MODEL, **pruned})


def check_agent(told: dict[str, Any]) -> None:
    for server in told["mcpServers"].values():
        PROGRAMS[server["command"]](server["args"])
        assert set(server["env"]) <= OF_NO_SETTING


def nothing_sent(_: dict[str, Any]) -> None:
    """A line of a log as the service writes it, which tests/app/test_logs.py holds."""


NO_SPEC: dict[str, Callable[[dict[str, Any]], None]] = {
    "docs/use-with-agents.md": check_agent,
    "docs/logs.md": nothing_sent,
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_is_sent_is_taken(page: Path) -> None:
    check = NO_SPEC.get(page.relative_to(ROOT).as_posix(), check_spec)
    for block in blocks(page, "json"):
        check(json.loads(block if block.startswith("{") else f"{{{block}}}"))


def test_the_pages_of_programs_are_run() -> None:
    assert [page for page in PAGES if blocks(page, "python") and page not in PROGRAMS_RUN] == []


def test_the_github_action_is_given_what_it_takes() -> None:
    inputs = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))["inputs"]
    used = yaml.safe_load(blocks(ROOT / "docs" / "gate-in-ci.md", "yaml")[0])
    assert set(used[0]["with"]) <= set(inputs)
    required = {name for name, told in inputs.items() if told.get("required")}
    assert required <= set(used[0]["with"])
    check_secateur(["submit", used[0]["with"]["model"], *used[0]["with"]["arguments"].split()])


# --- what is said in passing --------------------------------------------------------------------------------------


def spans(page: Path) -> list[str]:
    return SPAN.findall(FENCE.sub("", page.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_is_named_in_passing_exists(page: Path) -> None:
    """Commands with their options, operations, targets of make: `secateur gate JOB`, `GET /jobs`, `make test`."""
    for span in spans(page):
        if span.startswith(("secateur ", ".venv/bin/secateur ")):
            check_named(span.removeprefix(".venv/bin/").split()[1:])
        elif found := re.fullmatch(r"(GET|POST|PUT|PATCH|DELETE|HEAD) (/[^ ?]*)(\?.*)?", span):
            check_operation(found[1], found[2])
        elif re.fullmatch(r"make [a-z].*", span):
            check_make(shlex.split(span)[1:2])


def check_named(words: list[str]) -> None:
    command: Any = get_command(secateur)
    while words and hasattr(command, "commands") and re.fullmatch(r"[a-z-]+", words[0]) and words[0][0] != "-":
        command, *words = command.commands[words[0]], *words[1:]
    known = {option for one in command.get_params(Context(command)) for option in (*one.opts, *one.secondary_opts)}
    asked = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    assert asked <= known | {"--help", "-h"}, (command.name, asked - known)
