"""`secateur up` as real processes: what it starts, what it refuses, and that nothing outlives it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from app.client import Client

SECATEUR = Path(sys.executable).with_name("secateur")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not below pytest's own folder, which every run of pytest closes to the account that PostgreSQL runs as."""
    with tempfile.TemporaryDirectory(prefix="secateur-up-", ignore_cleanup_errors=True) as path:
        yield Path(path)


def environment(**settings: str) -> dict[str, str]:
    """The environment without this machine's settings, and with these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SECATEUR_")}
    return {**kept, "COLUMNS": "200", **{f"SECATEUR_{name.upper()}": value for name, value in settings.items()}}


class Up:
    """A running `secateur up`."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [SECATEUR, "up", "--data-dir", str(folder), "--port", "0"],
            stderr=subprocess.PIPE,
            text=True,
            env=environment(stage_preload=""),  # no stage runs here, and torch takes long to import
        )
        self.lines: list[str] = []
        self.url = self.wait_for(r"Secateur is up: (\S+)")

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

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        _, rest = self.process.communicate(timeout=120)
        self.lines.append(rest)
        return self.process.returncode


def gone(processes: list[psutil.Process], seconds: float = 90.0) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def test_from_nothing_to_ready_and_back_to_nothing(folder: Path) -> None:
    up = Up(folder)
    with Client(up.url) as client:
        assert client.ready().ready
        assert client.catalog().criteria
    children = up.descendants()
    names = {process.name() for process in children}
    assert {"postgres", "valkey-server"} <= names

    second = subprocess.run(
        [SECATEUR, "up", "--data-dir", str(folder)], env=environment(), capture_output=True, text=True, check=False
    )
    assert second.returncode == 40
    assert f"in use by another `secateur up` (process {up.process.pid})" in second.stderr

    worker = next(p for p in children if "celery" in p.cmdline() and "workers.celery_app" in p.cmdline())
    worker.kill()
    up.wait_for(r"(the worker ended with status -9; starting it again)")
    children += up.descendants()

    assert up.end(signal.SIGINT) == 0, "".join(up.lines)
    assert gone(children)


def test_a_killed_up_leaves_nothing_and_starts_again(folder: Path) -> None:
    up = Up(folder)
    children = up.descendants()
    up.end(signal.SIGKILL)
    again = Up(folder)
    assert gone(children)
    children = again.descendants()
    assert again.end(signal.SIGTERM) == 0
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


def test_wrong_settings_are_named() -> None:
    assert "SECATEUR_CONCURRENCY" in refused("up", concurrency="0")
    assert "SECATEUR_TRAINING_PROCESSES: Input should be 'auto'" in refused("up", training_processes="all")


@pytest.mark.parametrize("part", ["api", "worker", "migrate"])
def test_the_parts_for_a_cluster_want_both_urls(part: str) -> None:
    assert "set SECATEUR_DATABASE_URL and SECATEUR_REDIS_URL" in refused(part)


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
