"""`secateur datasets`: add, list, show, preview and delete uploaded data sets."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer
from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from secateur.cli.overview import PlainGroup
from secateur.cli.service_option import asks_service
from secateur.cli.session import connect, err, out
from secateur.contract.numbers import count, moment, size

if TYPE_CHECKING:
    from secateur.schemas.datasets import Dataset, DatasetRow

DatasetId = Annotated[UUID, typer.Argument(metavar="ID", help="The data set's id.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]

commands = typer.Typer(
    help="Add, list, show, preview and delete data sets: texts and instruction data of your own.",
    no_args_is_help=True,
    cls=PlainGroup,
    rich_markup_mode=None,
)


@commands.command()
@asks_service
def add(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="JSON lines, plain text or Parquet.")
    ],
    name: Annotated[str | None, typer.Option(help="For people; the file's own name if absent.")] = None,
    format: Annotated[
        str | None, typer.Option(help="jsonl, text or parquet, where the file's name does not tell.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The data set as JSON, in place of its id.")] = False,
) -> None:
    """Upload a file and print the data set's id; a job names it as the TEXT `upload:ID`."""
    with connect() as client:
        dataset = client.datasets.create(file, name=name, format=format)
    print(json.dumps(dataset.model_dump(mode="json")) if as_json else dataset.id)
    err.print(f"[dim]{count(dataset.rows)} rows of the kind {dataset.kind.value}; use it as[/] upload:{dataset.id}")


@commands.command("list")
@asks_service
def list_(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List data sets, the newest first."""
    with connect() as client:
        found = list(islice(client.datasets.list(page_size=min(limit, 100)), limit))
    if as_json:
        for dataset in found:
            print(json.dumps(dataset.model_dump(mode="json")))
        return
    out.print(_table(found) if found else "no data sets")


@commands.command()
@asks_service
def show(dataset_id: DatasetId, as_json: AsJson = False) -> None:
    """Show one data set."""
    with connect() as client:
        found = client.datasets.retrieve(dataset_id)
    if as_json:
        print(json.dumps(found.model_dump(mode="json")))
        return
    out.print(_table([found]))
    out.print(f"sha256 {found.sha256}")


@commands.command()
@asks_service
def preview(
    dataset_id: DatasetId,
    model: Annotated[
        str | None,
        typer.Option(help="A local model: rows as it sees them, after its chat template. What is learnt is bold."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100, help="At most so many rows.")] = 5,
    characters: Annotated[int, typer.Option(min=1, max=20_000, help="Of each row, at most so many.")] = 1_000,
    as_json: AsJson = False,
) -> None:
    """Show the first rows of a data set, as they are or as a model sees them."""
    with connect() as client:
        found = client.datasets.rows(dataset_id, limit=limit, characters=characters, model=model)
    for row in found.data:
        if as_json:
            print(json.dumps(row.model_dump(mode="json")))
        else:
            _show_row(row)


def _show_row(row: DatasetRow) -> None:
    """One row for people, in colour where the terminal has it."""
    seen = row.seen
    told = (
        "" if seen is None or seen.tokens is None else f" {count(seen.tokens)} tokens, {count(seen.learnt or 0)} learnt"
    )
    out.print(f"[bold]row {row.number}[/][dim]{told}[/]")
    if seen is not None and seen.problem is not None:
        out.print(f"[red]{escape(seen.problem)}[/]")
    elif seen is not None:
        parts = [(part.text, "bold" if part.learnt else "dim") for part in seen.parts]
        out.print(Text.assemble(*parts, " …" if seen.cut else "", overflow="fold"))
    else:
        text = row.fields.get("text")
        shown = text if isinstance(text, str) else json.dumps(row.fields, ensure_ascii=False, indent=2)
        out.print(Text(shown + (" …" if row.cut else ""), overflow="fold"))


@commands.command()
@asks_service
def delete(dataset_id: DatasetId, as_json: AsJson = False) -> None:
    """Delete a data set that no job which is not over uses."""
    with connect() as client:
        client.datasets.delete(dataset_id)
    if as_json:
        print(json.dumps({"id": str(dataset_id), "deleted": True}))
        return
    err.print(f"data set {dataset_id} is deleted")


def _table(datasets: Iterable[Dataset]) -> Table:
    """Data sets, one a line."""
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("Data set", "Uploaded", "Format", "Rows hold"):
        table.add_column(name, no_wrap=True)
    table.add_column("Rows", justify="right", no_wrap=True)
    table.add_column("Size", justify="right", no_wrap=True)
    table.add_column("Name", overflow="fold")
    for dataset in datasets:
        created = moment(dataset.created_at)
        kind, rows = dataset.kind.value, count(dataset.rows)
        table.add_row(
            str(dataset.id), created, dataset.format.value, kind, rows, size(dataset.size), escape(dataset.name)
        )
    return table
