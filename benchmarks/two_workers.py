"""How much sooner two workers are done with a sweep than one: a real service, real workers, equal tiny jobs.

Each round has two sweeps of as many points as `--points`, which differ in their seed alone and take nothing over from
each other: one is done by one worker, the other by two. Their order changes from round to round. The time is from the
submission to the end of the last job, with workers that are up already. The model is a tiny random Llama, so what is
measured is the service around the stages: processes that start, claims, files, commits. Prints a line for each round,
then one line of JSON.

    python benchmarks/two_workers.py [--rounds 3] [--points 6]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from app.db.migrate import upgrade
from app.local.embedded import embedded_servers
from app.main import create_app
from app.settings import Settings

PATIENCE = 600.0  # seconds for anything
SPEC: dict[str, Any] = {
    "model": {"source": "local", "path": "tiny"},
    "scoring": {"criterion": "magnitude", "plus": False},
    "pruning": {"kind": "depth", "blocks": 2},
    "recovery": {"kind": "none"},
    "benchmark": {
        "latency": {"input_tokens": 4, "output_tokens": [4], "batch_sizes": [1], "warmup": 1, "runs": 3},
        "perplexity": None,
        "fidelity": {"enabled": False},
        "samples": None,
        "generation": None,
    },
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--points", type=int, default=6, help="of each sweep")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="secateur-two-workers-") as name, ExitStack() as stack:
        folder = Path(name)
        write_model(folder / "models" / "tiny")
        servers = stack.enter_context(embedded_servers(folder))
        upgrade(servers.database_url)
        settings = Settings(
            database_url=servers.database_url,
            redis_url=servers.redis_url,
            data_dir=folder / "data",
            model_roots=(folder / "models",),
        )
        client = stack.enter_context(TestClient(create_app(settings), base_url="http://127.0.0.1"))
        took: dict[int, list[float]] = {1: [], 2: []}
        seeds = iter(range(1_000_000))
        for number in range(given.rounds):
            for count in (1, 2) if number % 2 == 0 else (2, 1):
                with workers(count, settings, client):
                    swept(client, [next(seeds) for _ in range(count)])  # a job for each, so that all have begun
                    took[count].append(swept(client, [next(seeds) for _ in range(given.points)]))
            print(json.dumps({"round": number, "one": took[1][-1], "two": took[2][-1]}), flush=True)
    ratios = [two / one for one, two in zip(took[1], took[2], strict=True)]
    print(json.dumps({"ratios": ratios, "median": statistics.median(ratios), "load": os.getloadavg()}))


def write_model(folder: Path) -> None:
    """A random Llama of 8 blocks, which a process of its own makes: torch is not needed afterwards."""
    code = (
        "import sys, torch\n"
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "torch.manual_seed(0)\n"
        "sizes = dict(vocab_size=256, hidden_size=32, intermediate_size=64, num_hidden_layers=8)\n"
        "heads = dict(num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64)\n"
        "LlamaForCausalLM(LlamaConfig(**sizes, **heads)).save_pretrained(sys.argv[1])\n"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, capture_output=True)


@contextmanager
def workers(count: int, settings: Settings, client: TestClient) -> Iterator[None]:
    """So many workers, which are up."""
    environment = {
        **os.environ,
        "SECATEUR_DATABASE_URL": str(settings.database_url),
        "SECATEUR_REDIS_URL": str(settings.redis_url),
        "SECATEUR_DATA_DIR": str(settings.data_dir),
        "SECATEUR_MODEL_ROOTS": str(settings.model_roots[0]),
        "SECATEUR_DEVICE": "cpu",
        "SECATEUR_THREADS": "1",
        "SECATEUR_LOG_LEVEL": "error",
    }
    command = [sys.executable, "-P", "-m", "workers.main"]
    started = [
        subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
        for _ in range(count)
    ]
    try:
        until(lambda: sum(worker["state"] == "up" for worker in client.get("/workers").json()["data"]) == count)
        yield
    finally:
        for process in started:
            process.send_signal(signal.SIGTERM)
        for process in started:
            process.wait(PATIENCE)


def swept(client: TestClient, seeds: list[int]) -> float:
    """Submit a sweep of these seeds; seconds until all of it is done."""
    began = time.monotonic()
    answer = client.post("/sweeps", json={"spec": SPEC, "grid": {"seed": seeds}})
    answer.raise_for_status()
    path = f"/sweeps/{answer.json()['id']}"
    until(lambda: client.get(path).json()["finished_at"] is not None)
    seconds = time.monotonic() - began
    found = client.get(path).json()
    assert found["state"] == "succeeded", [point["problem"] for point in found["points"]]
    return seconds


def until(holds: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {PATIENCE:.0f} s")
        time.sleep(0.1)


if __name__ == "__main__":
    main()
