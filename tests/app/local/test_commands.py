"""`secateur up` as real processes: what it starts, what it refuses, and that nothing outlives it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from app.broker.queue import make_celery
from app.local import running
from app.main import create_app
from app.settings import Settings
from secateur.client.errors import ClientError
from secateur.client.http_client import Client
from tests.fixtures.live import serving

SECATEUR = Path(sys.executable).with_name("secateur")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not below pytest's own folder, which every run of pytest closes to the account that PostgreSQL runs as."""
    with tempfile.TemporaryDirectory(prefix="secateur-up-", ignore_cleanup_errors=True) as path:
        yield Path(path)


@pytest.fixture
def client_url() -> Iterator[str]:
    """An API that no `up` has started."""
    with serving(create_app(Settings())) as url:
        yield url


def environment(**settings: str) -> dict[str, str]:
    """The environment without this machine's settings, and with these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SECATEUR_")}
    return {**kept, "COLUMNS": "200", **{f"SECATEUR_{name.upper()}": value for name, value in settings.items()}}


class Up:
    """A running `secateur up`."""

    def __init__(self, folder: Path, *more: str) -> None:
        self.process = subprocess.Popen(
            [SECATEUR, "up", "--data-dir", str(folder), "--port", "0", *more],
            stderr=subprocess.PIPE,
            text=True,
            env=environment(stage_preload=""),  # no stage runs here, and torch takes long to import
        )
        self.lines: list[str] = []
        self.url = self.wait_for(r"Secateur is up: (\S+)/ui ")  # the dashboard

    def wait_for(self, pattern: str) -> str:
        """Read until a line has the pattern; its first group."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if found := re.search(pattern, line):
                return found.group(1)
        raise AssertionError("".join(self.lines))

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def redis_url(self) -> str:
        worker = next(p for p in self.descendants() if "workers.main" in p.cmdline())
        return worker.environ()["SECATEUR_REDIS_URL"]

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        _, rest = self.process.communicate(timeout=120)
        self.lines.append(rest)
        return self.process.returncode


PARTS: dict[str, Callable[[psutil.Process], bool]] = {
    "PostgreSQL": lambda p: p.name() == "postgres" and "-D" in p.cmdline(),
    "Valkey": lambda p: p.name() == "valkey-server",
    "the API": lambda p: "app.serve" in p.cmdline(),
    "the worker": lambda p: "workers.main" in p.cmdline(),
}


def until(condition: Callable[[], object], patience: float = 120.0) -> None:
    give_up = time.monotonic() + patience
    while True:
        with suppress(ClientError):
            if condition():
                return
        assert time.monotonic() < give_up, "waited in vain"
        time.sleep(0.1)


def modes(folder: Path) -> dict[str, tuple[int, int]]:
    """Mode and owner of every folder below, and of this one."""
    found = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    return {str(path): (path.stat().st_mode, path.stat().st_uid) for path in found}


def run_up(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SECATEUR, "up", *arguments], env=environment(), capture_output=True, text=True, check=False, timeout=120
    )


def gone(processes: list[psutil.Process], seconds: float = 90.0) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.thorough
def test_from_nothing_to_ready_killed_ready_again_and_back_to_nothing(folder: Path) -> None:
    up = Up(folder)
    with Client(up.url) as client:
        assert client.ready().ready
        assert client.catalog().criteria
    children = up.descendants()
    names = {process.name() for process in children}
    assert {"postgres", "valkey-server"} <= names

    before = modes(folder)
    second = run_up("--data-dir", str(folder), "--port", "0")
    assert second.returncode == 40
    assert f"in use by another `secateur up` (process {up.process.pid})" in second.stderr
    assert modes(folder) == before  # PostgreSQL would end at its next checkpoint where its folder is closed to it
    third = run_up("--data-dir", str(folder / "other"), "--port", up.url.rpartition(":")[2])
    assert third.returncode == 40
    assert "is in use by another program" in third.stderr
    assert not (folder / "other" / "postgres").exists()

    for name, part in PARTS.items():
        ended = next(p for p in up.descendants() if part(p))
        ended.kill()
        up.wait_for(rf"({name} ended with status -9; starting it again at once)")
        children += up.descendants()
    with Client(up.url) as client:
        until(lambda: client.ready().ready)
    celery = make_celery(Settings(redis_url=up.redis_url()))
    until(lambda: celery.control.ping(timeout=0.5))

    up.end(signal.SIGKILL)  # which nobody can answer, and still nothing outlives it
    again = Up(folder)
    assert gone(children)
    children = again.descendants()
    assert again.end(signal.SIGTERM) == 0, "".join(again.lines)
    assert gone(children)


def refused(*arguments: str, **settings: str) -> str:
    done = subprocess.run(
        [SECATEUR, *arguments], env=environment(**settings), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    return " ".join(done.stderr.split())


def test_beyond_loopback_it_wants_a_key() -> None:
    said = refused("up", "--host", "0.0.0.0")
    assert "listens beyond loopback, which needs SECATEUR_API_KEYS" in said


@pytest.mark.thorough
@pytest.mark.parametrize(("option", "variable"), [("--model-root", "MODEL_ROOTS"), ("--data-root", "DATA_ROOTS")])
def test_roots_that_are_no_folders_are_named(option: str, variable: str, tmp_path: Path) -> None:
    (file := tmp_path / "file").touch()
    said = refused("up", option, "/nope", option, str(file), "--data-dir", str(tmp_path / "data"))
    assert f"/nope, which {option} or SECATEUR_{variable} names, does not exist" in said
    assert f"{file}, which {option} or SECATEUR_{variable} names, is not a folder" in said
    assert not (tmp_path / "data").exists()
    urls = {"database_url": "postgresql://127.0.0.1:1/x", "redis_url": "redis://127.0.0.1:1/0"}
    for part in ("api", "worker"):
        assert "/nope, which" in refused(part, **urls, **{variable.lower(): "/nope"})


def test_a_store_that_cannot_be_is_named() -> None:
    assert "SECATEUR_ARTIFACTS_URL is 'ftp://x/y'" in refused("up", artifacts_url="ftp://x/y")


def test_a_data_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (file := tmp_path / "file").touch()
    done = run_up("--data-dir", str(file), "--port", "0")
    assert done.returncode == 40
    assert f"cannot start in the data folder {file}" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_another_services_answer_does_not_count(client_url: str) -> None:
    assert running._trouble(client_url, "another-instance") == f"another service answers at {client_url}"


def test_wrong_settings_are_named() -> None:
    assert "SECATEUR_CONCURRENCY" in refused("up", concurrency="0")
    said = refused("up", training_processes="all")
    assert "SECATEUR_TRAINING_PROCESSES: it must be a whole number, at least 1 and at most 64, or auto" in said


@pytest.mark.parametrize("part", ["api", "worker", "migrate"])
def test_the_parts_for_a_cluster_want_both_urls(part: str) -> None:
    assert "set SECATEUR_DATABASE_URL and SECATEUR_REDIS_URL" in refused(part)


@pytest.mark.thorough
def test_migrate_runs_twice(empty_database_url: str) -> None:
    for _ in range(2):
        done = subprocess.run(
            [SECATEUR, "migrate"],
            env=environment(database_url=empty_database_url, redis_url="redis://127.0.0.1:1/0"),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def test_a_database_that_does_not_answer_is_one_line() -> None:
    settings = {"database_url": "postgresql://u:hunter2@127.0.0.1:1/x", "redis_url": "redis://127.0.0.1:1/0"}
    done = subprocess.run(
        [SECATEUR, "migrate"], env=environment(**settings), capture_output=True, text=True, check=False
    )
    assert done.returncode == 40
    assert "the database does not answer" in done.stderr
    assert "hunter2" not in done.stderr
    assert "Traceback" not in done.stderr
