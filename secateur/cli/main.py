"""The `secateur` command: a thin layer over the HTTP client; where the server is installed, its starter too.

The table below has the commands, and each is imported when it is named, so that help is quick. Commands that run the
service come from other distributions, by the entry point group `secateur.commands`: each is a function that adds its
rows.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Annotated

import typer

from secateur.cli.overview import Row, group_of
from secateur.cli.service_option import Url, name_service
from secateur.masking import mask_errors

WORK = "Jobs"
RESULTS = "Results"

COMMANDS = (
    Row("submit", "secateur.cli.submit:submit", WORK, "Submit a job and print its id."),
    Row(
        "sweep",
        "secateur.cli.sweep:sweep",
        WORK,
        "Submit a sweep, many jobs that differ in some fields, and print its id.",
    ),
    Row(
        "estimate",
        "secateur.cli.estimate:estimate",
        WORK,
        "Say what a job would take and give: sizes, speedup, time, memory, disk.",
    ),
    Row("watch", "secateur.cli.watch:watch", WORK, "Follow a job: one progress bar per stage, live."),
    Row("logs", "secateur.cli.logs:logs", WORK, "Print the lines that a job's stages have logged; times are in UTC."),
    Row(
        "status",
        "secateur.cli.jobs:status",
        WORK,
        "Show how a job stands: its stages, what they use, and while it waits, where in the queue and until when.",
    ),
    Row(
        "jobs",
        "secateur.cli.jobs:jobs",
        WORK,
        "List jobs, the newest first, each with the end of its id, which other commands take.",
    ),
    Row("cancel", "secateur.cli.jobs:cancel", WORK, "Cancel a job; a stage that runs is stopped within seconds."),
    Row("retry", "secateur.cli.jobs:retry", WORK, "Try a failed or cancelled job again, from its last checkpoint."),
    Row(
        "workers",
        "secateur.cli.workers:workers",
        WORK,
        "List the workers: device, memory, slots, what each runs, and when it was heard of last.",
    ),
    Row(
        "catalog",
        "secateur.cli.jobs:catalog",
        WORK,
        "Show what the service offers: criteria, pruners, recoveries, quantisations, benchmarks.",
    ),
    Row(
        "mcp",
        "secateur.cli.mcp:mcp",
        WORK,
        "Serve an agent over standard input and output, by the Model Context Protocol.",
    ),
    Row(
        "datasets",
        "secateur.cli.groups.datasets:commands",
        WORK,
        "Add, list, show, preview and delete data sets: texts and instruction data of your own.",
    ),
    Row(
        "sweeps",
        "secateur.cli.groups.sweeps:commands",
        WORK,
        "List, show, watch, gate, report on, cancel, retry and delete sweeps: many jobs of one spec.",
    ),
    Row(
        "report",
        "secateur.cli.results:report",
        RESULTS,
        "Show a job's report: as a table, or as JSON, Markdown, HTML or JUnit XML.",
    ),
    Row("gate", "secateur.cli.results:gate", RESULTS, "Wait for a job and judge it by its gates, for a pipeline."),
    Row(
        "compare",
        "secateur.cli.compare:compare",
        RESULTS,
        "Show what differs between two jobs that have succeeded, in what was asked and in what was measured.",
    ),
    Row(
        "ask",
        "secateur.cli.ask:ask",
        RESULTS,
        "Ask the original, the pruned and the recovered model of a job the same, and read what each answers.",
    ),
    Row("artifacts", "secateur.cli.results:artifacts", RESULTS, "List the files that a job has published."),
    Row(
        "download",
        "secateur.cli.results:download",
        RESULTS,
        "Download what a job has published, every file checked against its checksum.",
    ),
    Row(
        "publish",
        "secateur.cli.publish:publish",
        RESULTS,
        "Publish what a job has made: to a repository of the hub, or as a run of MLflow or W&B.",
    ),
)


def _all_commands() -> list[Row]:
    """Those of the service first, or what stands for them where it is not installed."""
    rows: list[Row] = []
    found = entry_points(group="secateur.commands")
    for one in found:
        one.load()(rows)
    if not found:
        from secateur.cli.without_server import COMMANDS as REFUSALS

        rows += REFUSALS
    return [*rows, *COMMANDS]


app = typer.Typer(
    name="secateur",
    help="Structured pruning of large language models as a job service.",
    cls=group_of(_all_commands()),
    no_args_is_help=True,
    rich_markup_mode="rich",  # of errors
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


def main() -> None:
    """The entry point of the console script."""
    mask_errors()
    app()
