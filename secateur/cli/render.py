"""Jobs, gates, artifacts and the catalogue as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich import box
from rich.markup import escape
from rich.table import Table

from secateur.cli.ids import short
from secateur.contract.jobs import waiting_in_words
from secateur.contract.numbers import age, count, duration, size

if TYPE_CHECKING:
    from secateur.contract.report import Report
    from secateur.schemas.artifacts import Artifact
    from secateur.schemas.catalog import Catalog, Method, Preset
    from secateur.schemas.jobs import Job, JobSummary, QueuePlace, Stage

_WITH_STAGE = 100  # columns of a terminal from which on a list of jobs names stages

_STYLES = {
    "succeeded": "green",
    "passed": "green",
    "failed": "red",
    "cancelled": "yellow",
    "cancelling": "yellow",
    "running": "cyan",
}


def styled(word: str) -> str:
    """A state or verdict in its colour."""
    style = _STYLES.get(word)
    return f"[{style}]{word}[/]" if style else word


def stands_in_words(queue: QueuePlace) -> str:
    """Where a waiting job stands, and when it is expected to go on and to be over."""
    return waiting_in_words(
        queue.position, queue.workers, start=queue.expected_start, end=queue.expected_end, now=datetime.now(UTC)
    )


def stages_table(job: Job) -> Table:
    """How each stage stands."""
    from secateur.contract.use import most_in_words, now_in_words

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("Stage", "State", "Done", "Took", "Uses"):
        table.add_column(name, overflow="fold")
    for stage in job.stages:
        done = stage.progress if stage.state in ("running", "cancelling") else None
        began, over = stage.started_at, stage.finished_at
        took = "" if began is None or stage.state == "queued" else duration(_seconds(began, over))
        amount = "" if done is None else f"{count(done.done)} of {count(done.total)} {escape(done.unit)}"
        runs = stage.state in ("running", "cancelling")
        uses = now_in_words(stage.use) if runs and stage.use else ""
        if stage.finished_at is not None:
            uses = most_in_words(stage.memory_bytes, stage.use)
        table.add_row(stage.key, styled(stage.state.value), amount, took, uses)
    return table


def _seconds(began: datetime, over: datetime | None) -> float:
    return max(0.0, ((over or datetime.now(UTC)) - began).total_seconds())


def gates_table(report: Report) -> Table:
    """Each gate with its number."""
    from secateur.report.gates import verdict_in_words  # the whole contract, which takes long to load

    title = f"Gates: {styled(report.verdict.value)}: {verdict_in_words(report)}"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for name in ("", "Gate", "What was found"):
        table.add_column(name)
    for result in report.gates:
        table.add_row("[green]✓[/]" if result.passed else "[red]✗[/]", result.gate, escape(result.message))
    return table


def jobs_table(jobs: Iterable[JobSummary], *, now: datetime, width: int) -> Table:
    """Jobs, one a line where they fit in; what stage they are at only where a line has room for it."""
    wide = width >= _WITH_STAGE
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("Job", "Model", "State", "Verdict", "Age", *(["Stage"] if wide else [])):
        table.add_column(name, no_wrap=name not in ("Model", "Stage"), overflow="fold")
    for job in jobs:
        current = ", ".join(_standing(stage) for stage in job.stages if stage.state in ("running", "failed"))
        verdict = styled(job.verdict.value) if job.verdict != "none" else ""
        since = age((now - job.created_at).total_seconds())
        row = (short(job.id), escape(job.model), styled(job.state.value), verdict, since)
        table.add_row(*row, *([current] if wide else []))
    return table


def _standing(stage: Stage) -> str:
    from secateur.contract.stage_kinds import doing  # the whole contract, which takes long to load

    return doing(stage.kind) if stage.state == "running" else stage.key


def artifact_table(artifacts: Iterable[Artifact]) -> Table:
    """Files with size and checksum."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("Path", overflow="fold")
    table.add_column("Size", justify="right", no_wrap=True)
    table.add_column("sha256", no_wrap=True)
    for artifact in artifacts:
        table.add_row(escape(artifact.path), size(artifact.size), artifact.sha256[:16])
    return table


def catalog_tables(catalog: Catalog) -> Iterable[Table]:
    """What a service offers under a name, section by section: presets of jobs and of sweeps, and every method."""
    sections: dict[str, Sequence[Preset | Method]] = {
        "presets": catalog.presets,
        "presets of sweeps": [preset.settings for preset in catalog.sweep_presets],
        "criteria": catalog.criteria,
        "pruners": catalog.pruners,
        "recoveries": catalog.recoveries,
        "quantisations": catalog.quantisations,
        "benchmarks": catalog.benchmarks,
    }
    for title, rows in sections.items():
        table = Table(box=box.SIMPLE_HEAD, title=title.capitalize(), title_justify="left")
        for name in ("Name", "What it does", "Paper"):
            table.add_column(name, overflow="fold")
        for row in rows:
            table.add_row(row.name, escape(row.summary), escape(row.paper))
        yield table
