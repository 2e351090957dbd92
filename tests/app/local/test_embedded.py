"""The embedded servers: real processes in temporary folders."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from redis import Redis

from app.local.embedded import PostgresServer, ValkeyServer, embedded_servers
from secateur.contract.errors import Conflict, Unavailable

OWNER = textwrap.dedent(
    """
    import signal, sys, time
    from pathlib import Path
    from app.local.embedded import embedded_servers
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are started deaf to it
    with embedded_servers(Path(sys.argv[1])) as servers:
        print(servers.database_url, servers.redis_url, flush=True)
        time.sleep(600)
    """
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not below pytest's own folder, which every run of pytest closes to the account that PostgreSQL runs as."""
    with tempfile.TemporaryDirectory(prefix="secateur-embedded-") as path:
        yield Path(path)


@pytest.fixture
def postgres(folder: Path) -> Iterator[PostgresServer]:
    server = PostgresServer(folder / "postgres", durable=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def valkey(folder: Path) -> Iterator[ValkeyServer]:
    server = ValkeyServer(folder / "valkey")
    server.start()
    yield server
    server.stop()


def servers_under(folder: Path) -> list[psutil.Process]:
    """Every process that works in a folder below `folder`."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(folder):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def wait_until_gone(folder: Path, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while servers_under(folder):
        assert time.monotonic() < deadline, servers_under(folder)
        time.sleep(0.05)


def start_owner(folder: Path) -> subprocess.Popen[str]:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    assert owner.stdout.readline().startswith("postgresql://")
    return owner


def end_owner(owner: subprocess.Popen[str], how: signal.Signals) -> None:
    owner.send_signal(how)
    owner.wait(120)
    assert owner.stdout is not None
    owner.stdout.close()


def test_both_servers_answer_and_stop_with_the_block(folder: Path) -> None:
    with embedded_servers(folder) as servers:
        with psycopg.connect(servers.database_url) as connection:
            assert connection.execute("select current_database()").fetchone() == ("secateur",)
        with Redis.from_url(servers.redis_url) as client:
            settings = client.config_get()
            assert client.ping()
        assert settings["appendonly"] == "yes"
        assert settings["maxmemory-policy"] == "noeviction"
        assert settings["bind"] == "127.0.0.1"
    assert servers_under(folder) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_neither_servers_nor_guards_are_handed_secrets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL may run as another account than the service: whoever shares it can read its environment."""
    secrets = ("SECATEUR_API_KEYS", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "OPENAI_API_KEY", "ANY_OTHER")
    for name in secrets:
        monkeypatch.setenv(name, "s3cret")
    monkeypatch.setenv("PGPORT", "5433")  # somebody's other server
    with embedded_servers(folder) as servers:
        with psycopg.connect(servers.database_url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        started = psutil.Process().children()
        assert {"postgres", "valkey-server", "sh"} <= {process.name() for process in started}
        for process in started:
            assert "s3cret" not in process.environ().values(), process


def test_valkey_asks_for_its_password(valkey: ValkeyServer) -> None:
    from redis.exceptions import AuthenticationError

    password = valkey.url.split(":")[2].split("@")[0]
    without = valkey.url.replace(f":{password}@", "")
    with Redis.from_url(without) as client, pytest.raises(AuthenticationError):
        client.ping()
    assert password not in " ".join(psutil.Process(valkey.pid).cmdline())


def test_postgres_listens_on_a_private_socket_only(postgres: PostgresServer, folder: Path) -> None:
    with psycopg.connect(postgres.url) as connection:
        assert connection.execute("show listen_addresses").fetchone() == ("",)
    assert (folder / "postgres" / "socket").stat().st_mode & 0o077 == 0


def test_committed_rows_survive_a_kill(postgres: PostgresServer) -> None:
    with psycopg.connect(postgres.url) as connection:
        connection.execute("create table kept as select 7 as n")
    url = postgres.url
    postgres.kill()
    assert postgres.pid is None
    postgres.start()
    assert postgres.url == url
    with psycopg.connect(postgres.url) as connection:
        assert connection.execute("select n from kept").fetchone() == (7,)


def test_keys_survive_kill_and_restart(valkey: ValkeyServer) -> None:
    url = valkey.url
    with Redis.from_url(url) as client:
        client.set("kept", "7")
        client.execute_command("WAITAOF", 1, 0, 5000)
    valkey.kill()
    valkey.start()
    valkey.stop()
    valkey.start()
    assert valkey.url == url
    with Redis.from_url(url) as client:
        assert client.get("kept") == b"7"


def test_a_second_owner_is_told_who_has_the_folder(folder: Path) -> None:
    owner = start_owner(folder)
    try:
        with pytest.raises(Conflict, match=f"process {owner.pid}"), embedded_servers(folder):
            pass
    finally:
        end_owner(owner, signal.SIGINT)
    assert servers_under(folder) == []


@pytest.mark.thorough
def test_a_killed_owner_leaves_nothing_and_the_folder_starts_again(folder: Path) -> None:
    owner = start_owner(folder)
    assert servers_under(folder)
    end_owner(owner, signal.SIGKILL)
    with embedded_servers(folder) as servers, psycopg.connect(servers.database_url) as connection:
        connection.execute("select 1")
    wait_until_gone(folder)


def test_a_stale_pid_file_is_no_obstacle(postgres: PostgresServer, folder: Path) -> None:
    pid_file = folder / "postgres" / "data" / "postmaster.pid"
    # half written; and the number of a process that lives but is not ours, as after a reboot; and of none
    for content in ("", "garbage", f"{os.getpid()}\n/elsewhere\n", "999999999\n"):
        postgres.stop()
        pid_file.write_text(content)
        postgres.start()
        with psycopg.connect(postgres.url) as connection:
            connection.execute("select 1")


def test_an_unfinished_initdb_is_made_again(folder: Path) -> None:
    half = folder / "postgres" / "data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    server = PostgresServer(folder / "postgres", durable=False)
    server.start()
    server.stop()
    assert not half.exists()


def test_a_cluster_of_another_version_is_refused(folder: Path) -> None:
    data = folder / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("12\n")
    with pytest.raises(Unavailable, match="made by PostgreSQL 12"):
        PostgresServer(folder / "postgres").start()


def test_a_long_folder_still_has_a_socket(folder: Path) -> None:
    server = PostgresServer(folder / ("long-" * 20) / "postgres", durable=False)
    server.start()
    with psycopg.connect(server.url) as connection:
        connection.execute("select 1")
    server.stop()


def test_a_missing_wheel_says_what_to_install(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Unavailable, match="its extra `embedded`"):
        ValkeyServer(folder)
