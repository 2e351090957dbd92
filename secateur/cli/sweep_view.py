"""Sweeps and how their points stand, as tables; and a sweep followed to its end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import typer
from rich import box
from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from secateur.cli.ids import short
from secateur.cli.render import styled
from secateur.cli.session import Exit, err
from secateur.contract.numbers import age

if TYPE_CHECKING:
    from secateur.client.http_client import Client
    from secateur.contract.jobs import State
    from secateur.schemas.sweeps import Sweep, SweepPoint, SweepSummary


def watch_sweep(client: Client, sweep_id: UUID, *, timeout: float | None = None) -> Sweep:
    """Show a sweep until all points are over, live or by a line for each change; how it ended. Raises WaitTimedOut."""
    if err.is_terminal:
        with Live(console=err, refresh_per_second=4) as live:
            for sweep in client.sweeps.follow(sweep_id, timeout=timeout):
                live.update(Group(Text.from_markup(standing(sweep)), points_table(sweep)))
        return sweep
    before: dict[int, SweepPoint] = {}
    for sweep in client.sweeps.follow(sweep_id, timeout=timeout):
        for line in _changes(sweep, before):
            err.print(line, highlight=False, soft_wrap=True)
        before = {point.place: point for point in sweep.points}
    return sweep


def _changes(sweep: Sweep, before: Mapping[int, SweepPoint]) -> Iterator[str]:
    """A line for each point that has come into another state, or to another stage."""
    from secateur.contract.sweep import words_among  # the whole contract, which takes long to load

    for point, words in zip(sweep.points, words_among([point.changes for point in sweep.points]), strict=True):
        was = before.get(point.place)
        if was is not None and (was.state, was.running) == (point.state, point.running):
            continue
        if was is None and point.state == "queued":
            continue
        what = f", {', '.join(point.running)}" if point.running else ""
        why = f": {point.problem.detail}" if point.problem else ""
        yield f"point {point.place} ({escape(words)}): {point.state.value}{what}{escape(why)}"


def end_unless_succeeded(sweep: Sweep) -> None:
    """Say why not every point has a result, and end the command."""
    if sweep.state != "succeeded":
        failed = sweep.state == "failed"
        err.print(
            f"[{'red' if failed else 'yellow'}]sweep {sweep.id} is {sweep.state.value}[/]: {counted(sweep.counts)}"
        )
        raise typer.Exit(Exit.JOB_FAILED if failed else Exit.JOB_CANCELLED)


def standing(sweep: Sweep) -> str:
    """ "sweep … is running: 4 queued, 1 running", as markup."""
    verdict = f", gates {styled(sweep.verdict.value)}" if sweep.verdict != "none" else ""
    return f"sweep {sweep.id} is {styled(sweep.state.value)}{verdict}: {counted(sweep.counts)}"


def counted(counts: Mapping[State, int]) -> str:
    """ "4 queued, 1 running"."""
    return ", ".join(f"{count} {state.value}" for state, count in counts.items() if count)


def _table(*names: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def sweeps_table(sweeps: Iterable[SweepSummary], *, now: datetime) -> Table:
    table = _table("Sweep", "Model", "State", "Verdict", "Age", "Points")
    for sweep in sweeps:
        verdict = styled(sweep.verdict.value) if sweep.verdict != "none" else ""
        since = age((now - sweep.created_at).total_seconds())
        state = styled(sweep.state.value)
        table.add_row(short(sweep.id), escape(sweep.model), state, verdict, since, counted(sweep.counts))
    return table


def points_table(sweep: Sweep) -> Table:
    from secateur.contract.sweep import words_among  # the whole contract, which takes long to load

    table = _table("", "Point", "State", "Verdict", "Job", "Stages", "")
    for point, words in zip(sweep.points, words_among([point.changes for point in sweep.points]), strict=True):
        verdict = styled(point.verdict.value) if point.verdict != "none" else ""
        what = point.problem.detail if point.problem else ", ".join(point.running)
        table.add_row(
            str(point.place),
            escape(words),
            styled(point.state.value),
            verdict,
            short(point.job_id),
            f"{point.stages_done}/{point.stages}",
            escape(what),
        )
    return table
