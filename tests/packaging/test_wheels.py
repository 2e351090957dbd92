"""Both wheels: what is in them, and the client's in an environment of its own, driving a job.

pip builds them with what the lock file pins, without isolation, so that the build tools are fetched once.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import venv
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from secateur.about import CLIENT, SERVER, VERSION
from tests.fixtures.played_service import MODEL, WEIGHTS
from tests.fixtures.processes import secateur_environment

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements.lock"


def environment_at(folder: Path) -> Path:
    """A virtual environment with nothing in it; its folder of programs."""
    venv.create(folder, symlinks=True)
    return folder / "bin"


def pip(programs: Path, *arguments: object) -> None:
    """This environment's pip, at work in another."""
    command = [sys.executable, "-m", "pip", "--quiet", "--python", programs / "python", *arguments]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The file of each distribution."""
    folder = tmp_path_factory.mktemp("wheels")
    programs = environment_at(folder / "build")
    pip(
        programs,
        "install",
        "-c",
        LOCK,
        *tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"],
    )
    projects = [ROOT / "secateur", ROOT]
    pip(programs, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, *projects)
    return {name: folder / f"{name.replace('-', '_')}-{VERSION}-py3-none-any.whl" for name in (CLIENT, SERVER)}


@pytest.fixture(scope="module")
def programs(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that holds the client, as locked, and nothing else."""
    programs = environment_at(tmp_path_factory.mktemp("client") / "environment")
    pip(programs, "install", "--no-compile", "-c", LOCK, wheels[CLIENT])
    return programs


def names_in(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def metadata_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(path).decode())


def needs(wheel: Path) -> dict[str, str]:
    """What is required without any extra, and in which version."""
    found = [Requirement(text) for text in metadata_of(wheel).get_all("Requires-Dist", [])]
    return {one.name: str(one.specifier) for one in found if one.marker is None or "extra" not in str(one.marker)}


def top_level(wheel: Path) -> set[str]:
    return {name.split("/")[0] for name in names_in(wheel) if ".dist-info/" not in name}


def in_tree(*packages: str) -> set[str]:
    """The files of these packages."""
    found = (path for package in packages for path in (ROOT / package).rglob("*") if path.is_file())
    return {str(path.relative_to(ROOT)) for path in found if "__pycache__" not in path.parts}


def test_the_client_is_one_small_thing(wheels: dict[str, Path]) -> None:
    wheel = wheels[CLIENT]
    assert top_level(wheel) == {"secateur"}
    assert set(needs(wheel)) == {"httpx", "pydantic", "rich", "typer"}
    assert metadata_of(wheel)["Version"] == VERSION
    inside = {name for name in names_in(wheel) if ".dist-info/" not in name}
    beside = {"secateur/pyproject.toml", "secateur/README.md", "secateur/LICENSE"}
    assert inside == in_tree("secateur") - beside
    assert "secateur/py.typed" in inside
    assert metadata_of(wheel).get_all("License-File") == ["LICENSE"]
    assert (ROOT / "secateur" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_the_server_is_the_rest(wheels: dict[str, Path]) -> None:
    wheel = wheels[SERVER]
    assert top_level(wheel) == {"app", "workers", "migrations"}
    assert needs(wheel)[CLIENT] == f"=={VERSION}"
    assert metadata_of(wheel)["Version"] == VERSION
    inside = {name for name in names_in(wheel) if ".dist-info/" not in name}
    assert inside == in_tree("app", "workers", "migrations")  # templates and pages too


# --- the client's, installed ----------------------------------------------------------------------------------------

WHAT_IS_THERE = """
import json, sys
from importlib.metadata import distributions
from importlib.util import find_spec
print(json.dumps({
    "distributions": {found.name: found.version for found in distributions()},
    "server": [name for name in ("app", "workers", "migrations") if find_spec(name)],
}))
"""

BOTH_CLIENTS = """
import asyncio, sys
from pathlib import Path
from secateur import AsyncClient, Client

async def follow():
    async with AsyncClient() as client:
        return [event.seq async for event in client.jobs.events(sys.argv[1])]

with Client() as client:
    assert [event.seq for event in client.jobs.events(sys.argv[1])] == asyncio.run(follow())
    client.jobs.download(sys.argv[1], Path("result"))
    print(client.jobs.retrieve(sys.argv[1]).state, client.jobs.report(sys.argv[1]).verdict)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder like that of most web projects: with packages of the server's names, which here end who imports them."""
    folder = tmp_path / "project"
    for name in ("app", "workers", "migrations"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("raise SystemExit('a package of the project ran')")
    return folder


def test_it_brings_nothing_but_what_is_locked(programs: Path) -> None:
    done = subprocess.run([programs / "python", "-P", "-c", WHAT_IS_THERE], capture_output=True, check=True)
    found = json.loads(done.stdout)
    assert found["server"] == []
    installed = {canonicalize_name(name): version for name, version in found["distributions"].items()}
    pins = dict(line.split("==") for line in LOCK.read_text().splitlines() if "==" in line and line[0] != "#")
    assert installed.pop(canonicalize_name(CLIENT)) == VERSION
    assert {"httpx", "pydantic", "rich", "typer"} <= set(installed)
    assert installed.items() <= {canonicalize_name(name): pin for name, pin in pins.items()}.items()


@pytest.mark.thorough
def test_it_drives_a_job(programs: Path, played_service: str, project: Path) -> None:
    def call(program: str, *arguments: str) -> str:
        environment = secateur_environment(SECATEUR_URL=played_service)
        command = [str(programs / program), *arguments]
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    job = call("secateur", "submit", MODEL, "--blocks", "6", "--recovery", "none", "--min-speedup", "1.2").strip()
    call("secateur", "watch", job, "--timeout", "2m")
    assert "speedup (batch 1, 12 + 16 tokens)" in call("secateur", "gate", job)
    assert json.loads(call("secateur", "report", job, "--format", "json"))["verdict"] == "passed"
    assert call("python", "-P", "-c", BOTH_CLIENTS, job) == "succeeded passed\n"
    assert (project / "result/prune/checkpoint/model.safetensors").read_bytes() == WEIGHTS


def test_it_says_what_running_a_service_needs(programs: Path, project: Path) -> None:
    done = subprocess.run([programs / "secateur", "up"], cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert SERVER in done.stderr
