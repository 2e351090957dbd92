"""Jobs, reports, artifacts and the catalogue as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.markup import escape
from rich.table import Table

from secateur.contract.stage_kinds import doing

if TYPE_CHECKING:
    from secateur.contract.results import Interval, Measurement, Report
    from secateur.schemas.artifacts import Artifact
    from secateur.schemas.catalog import Catalog
    from secateur.schemas.datasets import Dataset
    from secateur.schemas.jobs import JobSummary, Stage

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


def size(count: float) -> str:
    """Bytes for people, in powers of 1000: 270.4 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def millions(count: int) -> str:
    """Parameters for people: 134.5 M."""
    return f"{count / 1e9:.2f} B" if count >= 1e9 else f"{count / 1e6:.1f} M"


def report_tables(report: Report) -> Iterable[Table | str]:
    """The whole report: what was done, the measurements side by side, the gates, what to mind."""
    yield _summary(report)
    yield _measurements(report.benchmarks.variants)
    if report.gates:
        yield gates_table(report)
    for note in dict.fromkeys([*report.notes, *report.benchmarks.notes]):
        yield f"[yellow]note:[/] {escape(note)}"


def _summary(report: Report) -> Table:
    table = Table.grid(padding=(0, 2))
    model, pruned = report.model, report.pruned
    table.add_row("[bold]Model", escape(model.id) + (f" at {model.revision}" if model.revision else ""))
    if model.file is not None:
        table.add_row("[bold]Came as", f"a GGUF file of {size(model.file.bytes)}, {escape(model.file.type)}")
    for file, stage in ((pruned.gguf, "prune"), (report.recovered.gguf if report.recovered else None, "recover")):
        if file is not None:
            table.add_row("[bold]Goes as", escape(f"{stage}/{file.path}, {size(file.bytes_after)}"))
    if pruned.units:
        table.add_row("[bold]Removed", f"{len(pruned.units)} halves of blocks: {', '.join(pruned.units)}")
    if pruned.dropped or not pruned.units:
        table.add_row("[bold]Removed", f"{len(pruned.dropped)} of {model.blocks} blocks: {_numbers(pruned.dropped)}")
    if report.scores is not None:
        table.add_row("[bold]Chosen by", escape(report.scores.criterion))
    if report.recovered is not None:
        recovered = report.recovered
        words = f"{recovered.kind}, {recovered.steps} steps, {recovered.tokens:,} tokens, {recovered.seconds:.0f} s"
        table.add_row("[bold]Recovery", escape(words))
    environment = report.benchmarks.environment
    machine = f"{environment.device_name}, {environment.dtype}, {environment.threads} threads"
    table.add_row("[bold]Measured on", escape(machine))
    table.add_row("[bold]Verdict", styled(report.verdict.value))
    return table


def _numbers(values: Sequence[int]) -> str:
    return ", ".join(str(value) for value in values) or "none"


def _measurements(variants: Sequence[Measurement]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="Measured, with 95 % intervals", title_justify="left")
    table.add_column("")
    for variant in variants:
        table.add_column(variant.variant, justify="right")
    rows: dict[str, list[str]] = {}

    def put(label: str, column: int, value: str) -> None:
        rows.setdefault(label, [""] * len(variants))[column] = value

    for column, variant in enumerate(variants):
        put("Blocks", column, str(variant.blocks))
        put("Parameters", column, millions(variant.parameters))
        put("On disk", column, size(variant.bytes_on_disk))
        for cell in variant.latency:
            where = f"batch {cell.batch_size}, {cell.input_tokens} + {cell.output_tokens} tokens"
            put(f"Speedup ({where})", column, _interval(cell.speedup, "x") if cell.speedup else "1x")
            put(f"Tokens per second ({where})", column, _interval(cell.tokens_per_second))
        if variant.memory is not None:
            put("Peak memory", column, size(variant.memory.peak))
        for perplexity in variant.perplexity:
            put(f"Perplexity ({perplexity.text.description})", column, f"{perplexity.value:.2f}")
        for fidelity in variant.fidelity:
            put(f"KL from original ({fidelity.text.description})", column, f"{fidelity.kl:.3f}")
            put(f"Top-1 agreement ({fidelity.text.description})", column, f"{fidelity.top1_agreement:.1%}")
    for label, values in rows.items():
        table.add_row(escape(label), *values)
    return table


def _interval(interval: Interval, unit: str = "") -> str:
    return f"{interval.median:.3g}{unit} ({interval.low:.3g} to {interval.high:.3g})"


def gates_table(report: Report) -> Table:
    """Each gate with its number."""
    table = Table(box=box.SIMPLE_HEAD, title=f"Gates: {styled(report.verdict.value)}", title_justify="left")
    for name in ("", "Gate", "What was found"):
        table.add_column(name)
    for result in report.gates:
        table.add_row("[green]✓[/]" if result.passed else "[red]✗[/]", result.gate, escape(result.message))
    return table


def jobs_table(jobs: Iterable[JobSummary]) -> Table:
    """Jobs, one a line."""
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("Job", "Created", "State", "Verdict", "Stage", "Model"):
        table.add_column(name, no_wrap=name != "Model", overflow="fold")
    for job in jobs:
        current = next((_standing(stage) for stage in job.stages if stage.state in ("running", "failed")), "")
        created = f"{job.created_at.astimezone():%Y-%m-%d %H:%M}"
        verdict = styled(job.verdict.value) if job.verdict != "none" else ""
        table.add_row(str(job.id), created, styled(job.state.value), verdict, current, escape(job.model))
    return table


def _standing(stage: Stage) -> str:
    return doing(stage.name) if stage.state == "running" else stage.name


def artifact_table(artifacts: Iterable[Artifact]) -> Table:
    """Files with size and checksum."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("Path", overflow="fold")
    table.add_column("Size", justify="right", no_wrap=True)
    table.add_column("sha256", no_wrap=True)
    for artifact in artifacts:
        table.add_row(escape(artifact.path), size(artifact.size), artifact.sha256[:16])
    return table


def datasets_table(datasets: Iterable[Dataset]) -> Table:
    """Data sets, one a line."""
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("Data set", "Uploaded", "Format", "Rows hold"):
        table.add_column(name, no_wrap=True)
    table.add_column("Rows", justify="right", no_wrap=True)
    table.add_column("Size", justify="right", no_wrap=True)
    table.add_column("Name", overflow="fold")
    for dataset in datasets:
        created = f"{dataset.created_at.astimezone():%Y-%m-%d %H:%M}"
        kind, rows = dataset.kind.value, f"{dataset.rows:,}"
        table.add_row(
            str(dataset.id), created, dataset.format.value, kind, rows, size(dataset.size), escape(dataset.name)
        )
    return table


def catalog_tables(catalog: Catalog) -> Iterable[Table]:
    """The methods that a service offers, section by section."""
    for title in ("criteria", "pruners", "recoveries", "quantisations", "benchmarks"):
        table = Table(box=box.SIMPLE_HEAD, title=title.capitalize(), title_justify="left")
        for name in ("Name", "What it does", "Paper"):
            table.add_column(name, overflow="fold")
        for method in getattr(catalog, title):
            table.add_row(method.name, escape(method.summary), escape(method.paper))
        yield table
