"""The `secateur` command: a thin layer over the HTTP client; where the server is installed, its starter too.

Nothing heavy is imported before a command needs it, so `secateur --help` is quick. Commands that run the service come
from other distributions, by the entry point group `secateur.commands`: each is a function that takes the application.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from typing import Annotated

import typer

from secateur.cli import (
    ask,
    compare,
    estimate,
    groups,
    jobs,
    logs,
    mcp,
    publish,
    results,
    submit,
    sweep,
    watch,
    without_server,
    workers,
)
from secateur.cli.overview import Overview
from secateur.cli.session import Url, asks_service, name_service
from secateur.masking import mask_errors

WORK = "Jobs"
RESULTS = "Results"

app = typer.Typer(
    name="secateur",
    help="Structured pruning of large language models as a job service.",
    cls=Overview,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,  # a local may hold a key
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        from secateur.about import VERSION

        print(f"secateur {VERSION}")
        raise typer.Exit


@app.callback()
def common(
    url: Url = None,
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Structured pruning of large language models as a job service.

    A key goes into SECATEUR_API_KEY: on the command line everybody on the machine could read it.
    """
    name_service(url)


_servers = [found.load() for found in entry_points(group="secateur.commands")]
for _add_to in _servers or [without_server.add_to]:
    _add_to(app)
app.command(cls=submit.SubmitCommand, rich_help_panel=WORK)(submit.submit)
app.command(cls=sweep.SweepCommand, rich_help_panel=WORK)(sweep.sweep)
app.command(cls=estimate.EstimateCommand, rich_help_panel=WORK)(estimate.estimate)
app.command(rich_help_panel=WORK)(asks_service(watch.watch))
app.command(rich_help_panel=WORK)(asks_service(logs.logs))
app.command(rich_help_panel=WORK)(asks_service(jobs.status))
app.command("jobs", rich_help_panel=WORK)(asks_service(jobs.jobs))
app.command(rich_help_panel=WORK)(asks_service(jobs.cancel))
app.command(rich_help_panel=WORK)(asks_service(jobs.retry))
app.command(rich_help_panel=WORK)(asks_service(workers.workers))
app.command(rich_help_panel=WORK)(asks_service(jobs.catalog))
app.command(rich_help_panel=WORK)(asks_service(mcp.mcp))
for _file in iter_modules(groups.__path__, f"{groups.__name__}."):
    _group: typer.Typer = import_module(_file.name).commands
    app.add_typer(_group, name=_file.name.rpartition(".")[2].replace("_", "-"), rich_help_panel=WORK)
app.command(rich_help_panel=RESULTS)(asks_service(results.report))
app.command(rich_help_panel=RESULTS)(asks_service(results.gate))
app.command(rich_help_panel=RESULTS)(asks_service(compare.compare))
app.command(rich_help_panel=RESULTS)(asks_service(ask.ask))
app.command(rich_help_panel=RESULTS)(asks_service(results.artifacts))
app.command(rich_help_panel=RESULTS)(asks_service(results.download))
app.command(rich_help_panel=RESULTS)(asks_service(publish.publish))


def main() -> None:
    """The entry point of the console script."""
    mask_errors()
    app()
