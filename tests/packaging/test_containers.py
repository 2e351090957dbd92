"""The container files, as far as they can be held to without a Docker engine.

The compose file against the specification's schema and its own cross-references; every command that it and the
Dockerfile run is run here, in the same environment that the images install.
"""

from __future__ import annotations

import json
import re
import shlex
import socket
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from app.settings import Settings
from tests.fixtures.processes import free_port, running_api, secateur_environment

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "tests" / "data" / "compose-spec.schema.json"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def dockerfile() -> list[list[str]]:
    """Instructions with their words, continuation lines joined."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    return [line.split(None, 1) for line in text.splitlines() if line and not line.startswith("#")]


def test_the_compose_file_keeps_the_specification(compose: dict[str, Any]) -> None:
    validator = jsonschema_rs.validator_for(json.loads(SCHEMA.read_text()))
    assert [str(error) for error in validator.iter_errors(compose)] == []


def test_names_within_the_compose_file_hold(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert set(services) == {"postgres", "redis", "migrate", "api", "worker", "worker-gpu"}
    for service in services.values():
        assert set(service.get("depends_on", ())) <= set(services)
        assert set(service["networks"]) <= set(compose["networks"])
        named = {volume.split(":")[0] for volume in service.get("volumes", ()) if volume[0] not in "./$"}
        assert named <= set(compose["volumes"])
        assert "healthcheck" in service or service["image"].startswith("secateur-")


def test_what_must_not_be_lost_is_kept(compose: dict[str, Any]) -> None:
    command = compose["services"]["redis"]["command"]
    assert command[command.index("--appendonly") + 1] == "yes"
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    assert compose["services"]["worker-gpu"]["profiles"] == ["gpu"]


def test_no_secret_is_written_down(compose: dict[str, Any]) -> None:
    for line in (ROOT / "docker-compose.yml").read_text().splitlines():
        for name in re.findall(r"\$\{(\w*(?:PASSWORD|KEY|TOKEN|SECRET)\w*)", line):
            assert f"${{{name}:?" in line, f"{name} has to be required, with no default"
    values = dict(
        line.split("=", 1) for line in (ROOT / ".env.example").read_text().splitlines() if re.match(r"\w+=", line)
    )
    assert values == {"POSTGRES_PASSWORD": "", "SECATEUR_API_KEYS": ""}
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def test_every_variable_of_the_service_is_a_setting(compose: dict[str, Any]) -> None:
    known = {f"SECATEUR_{name.upper()}" for name in Settings.model_fields}
    for service in compose["services"].values():
        names = {name for name in service.get("environment", {}) if name.startswith("SECATEUR_")}
        assert names <= known
    in_images = set(re.findall(r"SECATEUR_\w+(?==)", (ROOT / "Dockerfile").read_text()))
    assert in_images <= known


def test_the_dockerfile_has_the_targets_and_copies_what_exists(
    compose: dict[str, Any], dockerfile: list[list[str]]
) -> None:
    stages = {words.split(" AS ")[1] for name, words in dockerfile if name == "FROM"}
    targets = {service["build"]["target"] for service in compose["services"].values() if "build" in service}
    assert targets == {"api", "worker"}
    assert targets <= stages
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for name, words in dockerfile:
        if name != "COPY":
            continue
        *sources, _ = shlex.split(words)
        if sources[0].startswith("--from="):
            assert sources[0].removeprefix("--from=") in stages
            continue
        for source in sources:
            assert (ROOT / source).exists()
            assert source in allowed


def test_images_run_as_nobody_special(dockerfile: list[list[str]]) -> None:
    names = [name for name, _ in dockerfile]
    assert ["USER", "secateur"] in dockerfile
    last = next(i for i, (name, words) in enumerate(dockerfile) if name == "FROM" and words.endswith(" AS api"))
    assert names.index("USER") < last
    assert "USER" not in names[last:]


def test_extras_of_the_images(dockerfile: list[list[str]]) -> None:
    installed = [words.split("./secateur ")[1] for name, words in dockerfile if name == "RUN" and "./secateur" in words]
    assert installed == ["'.[otel]'", "'.[worker,otel]'"]
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert not any(requirement.startswith("torch") for requirement in dependencies)


def test_the_pins_that_the_dockerfile_looks_up_are_there() -> None:
    lock = (ROOT / "requirements.lock").read_text().splitlines()
    for name in ("pip", "torch"):
        assert len([line for line in lock if line.startswith(f"{name}==")]) == 1


# --- the commands, run ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["migrate", "api", "worker", "worker-gpu"])
def test_commands_exist(compose: dict[str, Any], name: str) -> None:
    command, *arguments = compose["services"][name]["command"]
    found = Path(sys.executable).with_name(command)
    done = subprocess.run([found, *arguments, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.thorough
def test_migrate_and_api_run_with_the_settings_of_the_compose_file(
    compose: dict[str, Any], empty_database_url: str, redis_url: str, tmp_path: Path
) -> None:
    """What `docker compose up` does, with the addresses of the test's own servers, and the health check at the end."""
    urls = {"SECATEUR_DATABASE_URL": empty_database_url, "SECATEUR_REDIS_URL": redis_url}
    migrate, api = compose["services"]["migrate"], compose["services"]["api"]
    done = subprocess.run(
        [Path(sys.executable).with_name("secateur"), *migrate["command"][1:]],
        env=secateur_environment(**{**plain(migrate["environment"]), **urls}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    port = free_port()
    settings = {**plain(api["environment"]), **urls, "SECATEUR_HOST": "127.0.0.1", "SECATEUR_PORT": str(port)}
    settings |= {"SECATEUR_MODEL_ROOTS": str(tmp_path), "SECATEUR_DATA_ROOTS": str(tmp_path)}  # mounted in containers
    with running_api(settings):
        _, executable, *check = api["healthcheck"]["test"]
        assert executable == "python"
        code = [part.replace("127.0.0.1:8000", f"127.0.0.1:{port}") for part in check]
        tries = api["healthcheck"]["retries"]  # the first answer is slow: what it asks is imported for it
        assert any(subprocess.run([sys.executable, *code], check=False).returncode == 0 for _ in range(tries))


def test_the_workers_health_check_runs_and_runs_nothing_of_the_current_folder(
    dockerfile: list[list[str]], redis_url: str, tmp_path: Path
) -> None:
    check = next(words for name, words in dockerfile if name == "HEALTHCHECK" and "workers" in words)
    executable, *arguments = json.loads(check[check.index("[") :])
    assert executable == "python"
    for name in ("app", "workers", "celery"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("import sys; sys.exit('a stranger ran')")
    environment = secateur_environment(
        SECATEUR_REDIS_URL=redis_url, SECATEUR_DATABASE_URL="postgresql://postgres@127.0.0.1:1/x"
    )
    command = [sys.executable, *arguments, "--seconds", "0.5"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert f"celery@{socket.gethostname()} does not answer" in done.stderr  # there is no worker
    assert done.returncode == 1


def plain(environment: dict[str, str]) -> dict[str, str]:
    """Values with their defaults put in, and something for each secret."""

    def put(match: re.Match[str]) -> str:
        return match["default"] or "a-value-for-tests"

    pattern = re.compile(r"\$\{\w+(?::-(?P<default>[^}]*)|:\?[^}]*)\}")
    return {name: pattern.sub(put, value) for name, value in environment.items()}
