"""Requests a second of `POST /jobs` and `GET /jobs`, against a bare FastAPI + psycopg service that inserts one row.

Both are real processes on uvicorn, with one PostgreSQL between them and as many connections each. They are asked in
turn, A B A B, by a few connections that each wait for their answer, so that a machine with other work slows both alike:
it is the ratio that counts. Beside it stands the processor time that a request takes in the service, PostgreSQL and
Valkey together, which other work on the machine moves less. Prints a line for each round, then one line of JSON.

    python benchmarks/api.py [--rounds 9] [--seconds 3] [--clients 8]
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

from app.db.migrate import upgrade
from app.local.embedded import embedded_servers

BODY = json.dumps(
    {
        "model": {"source": "hub", "id": "HuggingFaceTB/SmolLM2-135M-Instruct"},
        "pruning": {"kind": "depth", "blocks": 6},
        "recovery": {"kind": "lora", "rank": 8},
        "benchmark": {"latency": {"batch_sizes": [1]}, "tasks": {"tasks": ["piqa"]}},
        "gates": {"min_speedup": 1.25, "max_perplexity_ratio": 1.5},
        "labels": {"commit": "abc123"},
    }
).encode()
OURS = ("app.serve",)  # as `secateur api` starts it
BARE = (
    *("uvicorn", "benchmarks.bare_api:create_app", "--factory", "--host", "127.0.0.1", "--port", "{port}"),
    *("--log-level", "warning", "--no-access-log"),
)
WAYS = {"POST": ("POST", BODY, 202), "GET": ("GET", None, 200)}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=9)
    arguments.add_argument("--seconds", type=float, default=3.0, help="of each service in each round")
    arguments.add_argument("--clients", type=int, default=8, help="requests that are open at a time")
    arguments.add_argument("--only", choices=[*WAYS], help="one of the two requests")
    settings = arguments.parse_args()
    found: dict[str, dict[str, float | list[float]]] = {}
    with tempfile.TemporaryDirectory(prefix="secateur-benchmark-") as folder, ExitStack() as stack:
        servers = stack.enter_context(embedded_servers(Path(folder)))
        upgrade(servers.database_url)
        environment = {
            **os.environ,
            "SECATEUR_DATABASE_URL": servers.database_url,
            "SECATEUR_REDIS_URL": servers.redis_url,
            "SECATEUR_DATA_DIR": folder,
            "SECATEUR_LOG_LEVEL": "warning",
            "BARE_DATABASE_URL": servers.database_url,
        }
        ours = stack.enter_context(serving(OURS, environment))
        bare = stack.enter_context(serving(BARE, environment))
        for name in [settings.only] if settings.only else WAYS:
            for port in (ours, bare):
                load(port, name, seconds=1.0, clients=settings.clients)  # connections, caches
            rates: list[tuple[float, float]] = []
            spent: dict[int, list[float]] = {ours: [], bare: []}
            for number in range(settings.rounds):
                pair = {ours: 0.0, bare: 0.0}
                for port in (ours, bare) if number % 2 == 0 else (bare, ours):
                    before = processor_seconds()
                    pair[port] = load(port, name, seconds=settings.seconds, clients=settings.clients)
                    spent[port].append((processor_seconds() - before) / (pair[port] * settings.seconds))
                rates.append((pair[ours], pair[bare]))
                ratio = pair[ours] / pair[bare]
                print(f"{name} {number + 1}: {pair[ours]:.0f} and {pair[bare]:.0f} a second, {ratio:.3f}", flush=True)
            ratios = sorted(one / other for one, other in rates)
            found[name] = {
                "ratio": round(statistics.median(ratios), 3),
                "low": round(ratios[0], 3),
                "high": round(ratios[-1], 3),
                "ours": round(statistics.median(one for one, _ in rates), 1),
                "bare": round(statistics.median(other for _, other in rates), 1),
                "ours_processor_ms": round(1000 * statistics.median(spent[ours]), 2),
                "bare_processor_ms": round(1000 * statistics.median(spent[bare]), 2),
            }
    print(json.dumps({"rounds": settings.rounds, "clients": settings.clients, **found}))


def processor_seconds() -> float:
    """What all processes that this one has started have used so far."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


@contextmanager
def serving(command: tuple[str, ...], environment: dict[str, str]) -> Iterator[int]:
    """A process of this service, on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", *(part.format(port=port) for part in command)],
        env={**environment, "SECATEUR_PORT": str(port)},
    )
    try:
        give_up = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if time.monotonic() > give_up or process.poll() is not None:
                    raise
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


def load(port: int, name: str, *, seconds: float, clients: int) -> float:
    """Answers a second, over `clients` connections that are kept open and each send when they were answered."""
    method, body, expected = WAYS[name]
    counts = [0] * clients
    barrier, stop = threading.Barrier(clients + 1), threading.Event()

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.connect()
        assert connection.sock is not None
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        barrier.wait()
        while not stop.is_set():
            connection.request(method, "/jobs", body, {"Content-Type": "application/json"} if body else {})
            response = connection.getresponse()
            content = response.read()
            assert response.status == expected, content
            counts[number] += 1
        connection.close()

    threads = [threading.Thread(target=client, args=(number,), daemon=True) for number in range(clients)]
    for thread in threads:
        thread.start()
    barrier.wait()
    begun = time.perf_counter()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - begun)


if __name__ == "__main__":
    main()
