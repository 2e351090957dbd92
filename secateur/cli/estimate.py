"""`secateur estimate`: what a job would take, by the same flags as `secateur submit`."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from secateur.cli.render_estimate import show_estimate
from secateur.cli.session import connect, out
from secateur.cli.spec_command import spec_command
from secateur.cli.spec_input import Model, Revision, Source, SpecFile, spec_of


def _estimate(
    model: Model = None,
    source: Source = None,
    revision: Revision = None,
    spec: SpecFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the estimate as JSON.")] = False,
    **values: Any,
) -> None:
    """Say what a job would take and give: sizes, speedup, time, memory, disk. Nothing is submitted.

    It takes the options of `secateur submit`. Times come from stages that the service has run, and are unknown until
    then.
    """
    body = spec_of(values, model=model, source=source, revision=revision, file=spec, label=None)
    with connect() as client:
        found = client.jobs.estimate(body)
    if as_json:
        print(json.dumps(found.model_dump(mode="json")))
        return
    show_estimate(found, out)


estimate = spec_command(_estimate)
