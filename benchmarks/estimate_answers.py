"""How long `POST /estimates` takes, against the second that is its bound: a folder, a GGUF file, a model of the hub.

    python benchmarks/estimate_answers.py CHECKPOINT_FOLDER FILE.gguf [--asked 20]

The API is a process as `secateur api` starts it, with a PostgreSQL of its own, and the hub a server of this machine
that has the folder's config under any name: one that was not asked for before is fetched, one that was is remembered.
What a real hub takes comes on top, and no more than 0.7 s are waited for it. Prints a line of each kind, then JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from api import OURS, serving

from app.db.migrate import upgrade
from app.local.embedded import embedded_servers

BOUND = 1.0  # seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a checkpoint in safetensors")
    parser.add_argument("file", type=Path, help="a GGUF file")
    parser.add_argument("--asked", type=int, default=20)
    arguments = parser.parse_args()
    config = (arguments.folder / "config.json").read_bytes()
    with tempfile.TemporaryDirectory(prefix="secateur-benchmark-") as folder, ExitStack() as stack:
        servers = stack.enter_context(embedded_servers(Path(folder)))
        upgrade(servers.database_url)
        environment = {
            **os.environ,
            "SECATEUR_DATABASE_URL": servers.database_url,
            "SECATEUR_REDIS_URL": servers.redis_url,
            "SECATEUR_DATA_DIR": folder,
            "SECATEUR_MODEL_ROOTS": os.pathsep.join(
                str(one.absolute().parent) for one in (arguments.folder, arguments.file)
            ),
            "SECATEUR_LOG_LEVEL": "warning",
            "HF_ENDPOINT": stack.enter_context(hub(config)),
        }
        port = stack.enter_context(serving(OURS, environment))
        client = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30))
        models: dict[str, Callable[[int], dict[str, Any]]] = {
            "a safetensors folder": lambda number: {"source": "local", "path": arguments.folder.name},
            "a GGUF file": lambda number: {"source": "local", "path": arguments.file.name},
            "a model of the hub, not seen before": lambda number: {"source": "hub", "id": f"someone/model-{number}"},
            "a model of the hub, remembered": lambda number: {"source": "hub", "id": "someone/model-0"},
        }
        found = {name: asked(client, model, arguments.asked) for name, model in models.items()}
    print(json.dumps({"asked": arguments.asked, "bound": BOUND, **found}))


def asked(client: httpx.Client, model: Callable[[int], dict[str, Any]], count: int) -> dict[str, float]:
    """The median and the longest of so many answers, after one that is not counted."""
    seconds = []
    for number in range(count + 1):
        body = {"model": model(number), "pruning": {"kind": "depth", "blocks": 2}}
        began = time.perf_counter()
        response = client.post("/estimates", json=body)
        seconds.append(time.perf_counter() - began)
        assert response.status_code == 200, response.text
        assert response.json()["original"] is not None, response.text
    median, longest = statistics.median(seconds[1:]), max(seconds[1:])
    print(
        f"{model(0)}: {median:.3f} s of {BOUND:g} s, at most {longest:.3f} s; the first {seconds[0]:.3f} s", flush=True
    )
    return {"median": round(median, 4), "longest": round(longest, 4), "first": round(seconds[0], 4)}


@contextmanager
def hub(config: bytes) -> Iterator[str]:
    """The address of a hub that has this config under any name."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = config if self.path.endswith("/config.json") else b""
            self.send_response(200 if body else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


if __name__ == "__main__":
    main()
