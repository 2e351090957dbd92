"""`secateur workers`: who runs the stages of jobs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from secateur.cli.ids import short
from secateur.cli.session import connect, out
from secateur.contract.numbers import age, size

if TYPE_CHECKING:
    from secateur.schemas.workers import Worker

_STYLES = {"up": "green", "idle": "yellow", "lost": "red"}


def workers(as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False) -> None:
    """List the workers: device, memory, slots, what each runs, and when it was heard of last."""
    with connect() as client:
        found = client.workers.list()
    if as_json:
        for worker in found:
            print(json.dumps(worker.model_dump(mode="json")))
        return
    out.print(_table(found, now=datetime.now(UTC)) if found else "no workers: jobs wait until one is started")


def _table(workers: Iterable[Worker], *, now: datetime) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in ("Worker", "State", "Device", "Memory", "Slots", "Runs", "Heard"):
        table.add_column(name, justify="right" if name in ("Memory", "Slots", "Heard") else "left", overflow="fold")
    for worker in workers:
        memory = worker.device_memory_bytes if worker.device == "cuda" else worker.stage_memory_bytes
        runs = ", ".join(f"{stage.key} of {short(stage.job_id)}" for stage in worker.running)
        device = worker.device_name or worker.problem or "not tried yet"
        state = f"[{_STYLES[worker.state]}]{worker.state}[/]"
        heard = age((now - worker.heartbeat_at).total_seconds())
        shown = "" if memory is None else size(memory)
        table.add_row(escape(worker.name), state, escape(device), shown, str(worker.slots), escape(runs), heard)
    return table
