"""`secateur watch`: a job's stages as live progress bars; plain lines where the output is no terminal."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer
from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from secateur.cli.ids import short
from secateur.cli.job_ids import JobId, find
from secateur.cli.render import stands_in_words
from secateur.cli.session import Exit, connect, err, show_problem, timeout_seconds
from secateur.contract.numbers import count, duration

if TYPE_CHECKING:
    from secateur.client.http_client import Client
    from secateur.schemas.events import Event
    from secateur.schemas.jobs import Job

_MARKS = {
    "queued": "[dim]·[/]",
    "running": "[cyan]●[/]",
    "cancelling": "[yellow]●[/]",
    "succeeded": "[green]✓[/]",
    "failed": "[red]✗[/]",
    "cancelled": "[yellow]–[/]",
}
_LINE_SECONDS = 10.0  # between two lines of progress of one stage, in plain output


@dataclass
class StageView:
    """What is shown of one stage."""

    state: str = "queued"
    done: int = 0
    total: int = 0
    unit: str = ""
    note: str = ""  # the newest figures or log line
    use: str = ""  # what it uses of its machine
    began: float | None = None
    took: float | None = None
    printed: float = 0.0  # when a line of plain progress was last printed

    def seconds(self) -> float | None:
        """How long it has run; from the events' own times where it is over."""
        if self.took is not None:
            return self.took
        return time.time() - self.began if self.began is not None else None


class JobView:
    """The state of a job as its events tell it, drawn as a table of bars."""

    def __init__(self, job: Job, *, plain: bool) -> None:
        self.stages = {stage.key: StageView() for stage in job.stages}
        self.plain = plain
        self.check = job.stages[0].key if job.stages else None  # the first of every job, and over in seconds
        self.found: list[str] = []  # what it has told, which stays in sight

    def take(self, event: Event) -> None:
        """Bring the view up to this event."""
        if event.level == "debug":
            return
        if event.stage and event.type == "state":
            self.stages.setdefault(event.stage, StageView())  # one that another stage has added
        stage = self.stages.get(event.stage) if event.stage else None
        if stage is None:
            if event.type == "log" and self.plain:
                err.print(escape(str(event.data.get("message", ""))), highlight=False)
            return
        if event.type == "state":
            self._state(stage, event)
        elif event.type == "progress":
            stage.done, stage.total = int(event.data["done"]), int(event.data["total"])
            stage.unit = str(event.data["unit"])
            stage.use = _use(event)
        elif event.type == "log":
            stage.note = str(event.data.get("message", ""))
            if event.stage == self.check and event.level == "info":
                self.found.append(stage.note)
        elif event.type == "metrics":
            from secateur.report.words import figures_in_words  # the whole contract, which takes long to load

            stage.note = figures_in_words(event.data)
        if self.plain:
            self._print(str(event.stage if event.stage else ""), stage, event)

    def _state(self, stage: StageView, event: Event) -> None:
        stage.state = str(event.data.get("state", stage.state))
        moment = event.created_at.timestamp()
        if stage.state == "running":
            stage.began, stage.took = moment, None
            if event.stage == self.check:
                self.found.clear()
        elif stage.state == "queued":
            stage.began = stage.took = None
        elif stage.began is not None and stage.state != "cancelling":
            stage.took = max(0.0, moment - stage.began)
        if stage.state == "succeeded":
            stage.done = stage.total = stage.total or 1
            stage.note = ""

    def _print(self, name: str, stage: StageView, event: Event) -> None:
        if event.type == "state":
            took = f" in {duration(stage.took)}" if stage.took is not None else ""
            err.print(f"{name}: {stage.state}{took}", highlight=False)
        elif event.type == "log":
            err.print(f"{name}: {escape(stage.note)}", highlight=False)
        elif event.type == "progress" and time.monotonic() - stage.printed >= _LINE_SECONDS:
            stage.printed = time.monotonic()
            using = f"; {stage.use}" if stage.use else ""
            err.print(f"{name}: {count(stage.done)} of {count(stage.total)} {stage.unit}{using}", highlight=False)

    def __rich__(self) -> Group:
        table = Table.grid(padding=(0, 1))
        for column in ({"width": 1}, {"min_width": 9}, {"width": 32}, {"justify": "right"}, {"justify": "right"}):
            table.add_column(no_wrap=True, **column)
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        for name, stage in self.stages.items():
            bar = ProgressBar(total=max(stage.total, 1), completed=stage.done, width=32)
            done = f"{count(stage.done)}/{count(stage.total)} {stage.unit}" if stage.unit and stage.total else ""
            seconds = stage.seconds()
            note = f"[dim]{escape(stage.note)}[/]" if stage.state in ("running", "cancelling", "failed") else ""
            table.add_row(_MARKS.get(stage.state, "?"), name, bar, done, duration(seconds) if seconds else "", note)
        using = [
            f"{name}: {stage.use}" for name, stage in self.stages.items() if stage.use and stage.state == "running"
        ]
        found = [Text(f"  {line}", style="dim", no_wrap=True, overflow="ellipsis") for line in (*using, *self.found)]
        return Group(table, *found)


def _use(event: Event) -> str:
    """What the stage uses of its machine; empty where the event does not say, as one of an older service."""
    told = event.data.get("use")
    if not told:
        return ""
    from secateur.contract.use import StageUse, now_in_words

    return now_in_words(StageUse.model_validate(told))


def show(client: Client, job_id: UUID, *, timeout: float | None = None) -> Job:
    """Follow a job with bars until it is over; the finished job. Raises WaitTimedOut."""
    job = client.jobs.retrieve(job_id)
    if job.queue is not None:
        err.print(f"[dim]{stands_in_words(job.queue)}[/]", highlight=False)
    view = JobView(job, plain=not err.is_terminal)
    if view.plain:
        return client.jobs.wait(job_id, timeout=timeout, on_event=view.take)
    with Live(view, console=err, refresh_per_second=8):
        return client.jobs.wait(job_id, timeout=timeout, on_event=view.take)


def end_unless_succeeded(job: Job) -> None:
    """Say why a job has no result, and end the command."""
    if job.state == "failed":
        if job.problem is not None:
            show_problem(job.problem)
        else:
            err.print(f"[red]job {job.id} failed[/]")
        raise typer.Exit(Exit.JOB_FAILED)
    if job.state == "cancelled":
        err.print(f"[yellow]job {job.id} was cancelled[/]")
        raise typer.Exit(Exit.JOB_CANCELLED)


def watch(
    job_id: JobId,
    timeout: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Stop watching after 90s, 15m or 2h; the job goes on.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the finished job as JSON.")] = False,
) -> None:
    """Follow a job: one progress bar per stage, live.

    Ends with 0 where the job succeeded, 20 where it failed, 21 where it was cancelled, 30 at the time-out.
    Ctrl-C stops watching, not the job.
    """
    seconds = timeout_seconds(timeout)
    with connect() as client:
        job = show(client, find(client, job_id), timeout=seconds)
        if as_json:
            print(job.model_dump_json())
        end_unless_succeeded(job)
    err.print(f"[green]succeeded[/]; the report: secateur report {short(job.id)}")
