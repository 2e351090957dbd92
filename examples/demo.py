"""`make demo`: a real language model through a real service, from nothing to a report.

    make demo                        some four minutes on two cores, once all is installed
    make demo DEMO_ARGS=--quick      the same path with next to no training and few timed runs, for a test

It fetches SmolLM2-135M-Instruct and a news text, starts the whole service in a folder of its own, submits one job
with `POST /jobs`, follows it, prints the report, and stops everything. Ctrl-C at any point leaves nothing running.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

from app.local.running import running
from examples.demo_files import CACHE, MODEL, TEXT, fetch
from secateur import Client
from secateur.cli.render_report import report_lines
from secateur.cli.session import err, fail, out, show_problem
from secateur.cli.watch import show
from secateur.client.errors import ClientError
from secateur.contract.errors import ServiceError

# One part of the text for choosing and training, another, disjoint, for measuring.
TRAINING = {"source": "local", "path": TEXT.name, "start": 0.0, "stop": 0.7}
MEASURING = {"source": "local", "path": TEXT.name, "start": 0.7, "stop": 1.0}

# The paper's method at a size for two cores and some minutes: fewer training steps, fewer timed runs.
SPEC: dict[str, Any] = {
    "model": {"source": "local", "path": MODEL.name},
    "scoring": {"criterion": "perplexity", "calibration": {"text": TRAINING, "samples": 4, "tokens": 128}},
    "pruning": {"kind": "depth", "blocks": 6},
    "recovery": {
        "kind": "lora",
        "text": TRAINING,
        "tokens": 128,
        "batch_size": 4,
        "micro_batch_size": 4,
        "max_steps": 8,
        "warmup_steps": 2,
        "learning_rate": 5e-4,
        "checkpoint_steps": 4,
    },
    "benchmark": {
        "latency": {"output_tokens": [32], "warmup": 1, "runs": 7},
        "perplexity": {"texts": [MEASURING], "windows": 8},
        "samples": {"max_new_tokens": 24},
        "generation": {"prompts": 4},
    },
    "gates": {"min_speedup": 1.0, "max_kl": 1.0},
    "labels": {"made-by": "demo"},
}

# The least that goes through every stage: its figures mean nothing.
QUICK: dict[str, Any] = {
    **SPEC,
    "scoring": {"criterion": "perplexity", "calibration": {"text": TRAINING, "samples": 2, "tokens": 16}},
    "recovery": {
        **SPEC["recovery"],
        "tokens": 32,
        "batch_size": 4,
        "max_steps": 2,
        "warmup_steps": 1,
        "checkpoint_steps": 1,
    },
    "benchmark": {
        "latency": {"output_tokens": [2], "warmup": 1, "runs": 3},
        "perplexity": {"texts": [MEASURING], "windows": 3, "tokens": 32},
        "samples": {"max_new_tokens": 2},
        "generation": {"prompts": 1, "max_new_tokens": 2},
    },
    "gates": {"max_bytes": 500_000_000},
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description="Prune a real language model.")
    parser.add_argument("--quick", action="store_true", help="next to no training, few timed runs")
    parser.add_argument("--folder", type=Path, default=CACHE, help="for the service's data and the result")
    arguments = parser.parse_args()
    spec = QUICK if arguments.quick else SPEC
    service_folder, result = arguments.folder.absolute() / "service", arguments.folder.absolute() / "result"
    began = time.monotonic()
    if not arguments.quick:
        err.print("[dim]This takes some four minutes on two cores that have nothing else to do.[/]")
    err.print("[bold]1.[/] Fetching the model and the text: 120 MB, unless they are here already")
    model, text = fetch(MODEL), fetch(TEXT)
    err.print("[bold]2.[/] Starting the service")
    for folder in (service_folder, result):  # of an earlier demo
        shutil.rmtree(folder, ignore_errors=True)
    os.environ |= {
        "SECATEUR_DATA_DIR": str(service_folder),
        "SECATEUR_MODEL_ROOTS": str(model.parent),
        "SECATEUR_DATA_ROOTS": str(text.parent),
        "SECATEUR_PORT": "0",
    }
    for name in ("SECATEUR_DATABASE_URL", "SECATEUR_REDIS_URL", "SECATEUR_ARTIFACTS_URL", "SECATEUR_API_KEYS"):
        os.environ.pop(name, None)
    with running(threading.Event()) as service:
        assert service is not None, "nothing sets the event"
        with Client(service.url) as client:
            code = run_job(client, spec, result)
        err.print("[bold]5.[/] Stopping the service")
    err.print(f"[dim]{time.monotonic() - began:.0f} s in all[/]")
    return code


def run_job(client: Client, spec: dict[str, Any], result: Path) -> int:
    """One job from its submission to its report, its files in the folder `result`; the exit code."""
    err.print(f"[bold]3.[/] POST {client.url}/jobs: remove {spec['pruning']['blocks']} blocks, train, measure")
    job = client.jobs.create(spec)
    began = time.monotonic()
    job = show(client, job.id)
    if job.state != "succeeded":
        if job.problem is not None:
            show_problem(job.problem)
        fail(f"the job {job.state.value}")
        return 1
    err.print(f"[bold]4.[/] The report, after {time.monotonic() - began:.0f} s of work")
    for part in report_lines(client.jobs.report(job.id), width=out.width):
        out.print(part)
    for prefix in ("recover/checkpoint/", "report/"):
        client.jobs.download(job.id, result, prefix=prefix)
    out.print(f"checkpoint: {shown(result / 'recover' / 'checkpoint')}", soft_wrap=True, highlight=False)
    out.print(f"report:     {shown(result / 'report' / 'report.html')}", soft_wrap=True, highlight=False)
    return 0


def shown(path: Path) -> Path:
    """Relative to where the user is, if it lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        err.print("[yellow]interrupted; everything that was started is stopped[/]")
        sys.exit(130)
    except (ClientError, ServiceError) as error:
        fail(str(error))
        sys.exit(1)
