"""No command takes anything from the folder in which it is called, whatever lies there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.local.settings_of import make_absolute
from tests.app.local.test_commands import Up
from tests.fixtures.processes import SECATEUR, free_port, running_api, running_worker, secateur_environment
from tests.fixtures.service import Service

# Packages of this service, what it is made of, what Python itself looks for, and a module that a fork server imports.
PACKAGES = ("app", "workers", "migrations", "tests", "celery", "torch", "secateur")
MODULES = (
    *("app", "workers", "migrations"),  # as files too
    *("secateur", "torch", "transformers", "celery", "kombu", "celeryconfig", "uvicorn", "fastapi", "sqlalchemy"),
    *("alembic", "psycopg", "redis", "structlog", "tenacity", "opentelemetry", "httpx", "typer", "pydantic", "rich"),
    *("json", "colorsys", "logging", "typing"),
    *("sitecustomize", "usercustomize", "__main__"),
)


@pytest.fixture
def hostile() -> Iterator[Path]:
    """A folder in which every module says that it was run, and which is the current one.

    Not below pytest's own folder, which every run of pytest closes to the account that PostgreSQL runs as.
    """
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="secateur-hostile-", ignore_cleanup_errors=True) as name:
        folder, told = Path(name) / "hostile", Path(name) / "told"
        code = f"open({str(told)!r}, 'a').write(__name__ + ' of ' + __file__ + chr(10))\nraise SystemExit(77)\n"
        for package in PACKAGES:
            (folder / package).mkdir(parents=True)
            (folder / package / "__init__.py").write_text(code)
            (folder / package / "env.py").write_text(code)
        for module in MODULES:
            (folder / f"{module}.py").write_text(code)
        (folder / ".env").write_text("SECATEUR_PORT=1\nSECATEUR_CONCURRENCY=none\n")
        (folder / "alembic.ini").write_text("[alembic]\nscript_location = migrations\n")
        (folder / "pyproject.toml").write_text("[tool.alembic]\nscript_location = 'migrations'\n")
        os.chdir(folder)
        try:
            yield folder
        finally:
            os.chdir(before)
        assert not told.exists(), told.read_text()


def call(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SECATEUR, *arguments],
        env=secateur_environment(**{f"SECATEUR_{name.upper()}": value for name, value in settings.items()}),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.thorough
@pytest.mark.usefixtures("hostile")
def test_commands_that_end_by_themselves(empty_database_url: str) -> None:
    assert call("--version").returncode == 0
    assert "SECATEUR_CONCURRENCY" in call("settings").stdout
    done = call("migrate", database_url=empty_database_url, redis_url="redis://127.0.0.1:1/0")
    assert done.returncode == 0, done.stderr


@pytest.mark.thorough
@pytest.mark.usefixtures("hostile")
def test_the_api(database_url: str, redis_url: str) -> None:
    urls = {"SECATEUR_DATABASE_URL": database_url, "SECATEUR_REDIS_URL": redis_url}
    with running_api({**urls, "SECATEUR_HOST": "127.0.0.1", "SECATEUR_PORT": str(free_port())}) as url:
        done = call("jobs", url=url)  # it sends to the broker too, by way of Celery
        assert done.returncode == 0, done.stderr
        code = "import httpx, sys; print(httpx.get(sys.argv[1] + '/readyz', timeout=60).json()['ready'])"
        asked = subprocess.run([sys.executable, "-P", "-c", code, url], capture_output=True, text=True, check=False)
        assert asked.stdout.strip() == "True", asked.stderr


@pytest.mark.thorough
@pytest.mark.usefixtures("hostile")
def test_the_worker_and_its_stages(service: Service) -> None:
    with running_worker(service.environment(stage_preload="colorsys")):
        service.settled(service.submit())


@pytest.mark.thorough
def test_up(hostile: Path) -> None:
    (hostile / "models").mkdir()
    up = Up(Path("data"), "--model-root", "models")
    try:
        roots = {p.environ().get("SECATEUR_MODEL_ROOTS") for p in up.descendants() if "app.serve" in p.cmdline()}
        assert roots == {str(hostile / "models")}  # paths are meant from the folder all the same
        assert (hostile / "data" / "logs" / "api.log").exists()
    finally:
        assert up.end(signal.SIGINT) == 0, "".join(up.lines)


def test_relative_paths_are_meant_from_the_folder() -> None:
    environment = {
        "SECATEUR_MODEL_ROOTS": "models:/abs",
        "SECATEUR_DATA_DIR": "~/data",
        "HF_HOME": "hf",
        "HF_HUB_CACHE": "./hf/cache",
        "HF_TOKEN": "token",
        "AWS_CONFIG_FILE": "aws/config",
        "PYTHONPATH": ":lib",
        "SECATEUR_PORT": "8000",
        "PATH": "bin",
    }
    make_absolute(environment, Path("/from"))
    home = str(Path.home())
    assert environment == {
        "SECATEUR_MODEL_ROOTS": "/from/models:/abs",
        "SECATEUR_DATA_DIR": f"{home}/data",
        "HF_HOME": "/from/hf",
        "HF_HUB_CACHE": "/from/hf/cache",
        "HF_TOKEN": "token",
        "AWS_CONFIG_FILE": "/from/aws/config",
        "PYTHONPATH": "/from/lib",
        "SECATEUR_PORT": "8000",
        "PATH": "bin",
    }
