"""`secateur submit`: flags or a file in, a job id out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from secateur.cli.ids import short
from secateur.cli.render_estimate import show_estimate, time_in_words
from secateur.cli.session import connect, err, out
from secateur.cli.spec_command import spec_command
from secateur.cli.spec_input import Labels, Model, Revision, Source, SpecFile, look_at, spec_of, validated
from secateur.cli.watch import end_unless_succeeded, show

if TYPE_CHECKING:
    from secateur import Client


def _submit(
    model: Model = None,
    source: Source = None,
    revision: Revision = None,
    spec: SpecFile = None,
    label: Labels = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same key gives the same job again, such as a CI run's id and commit.")
    ] = None,
    cancel_after: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Cancel the job if it is not over by then: 90s, 2h.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print the spec, if its fields are right, and what the job would take; submit nothing. "
            "`--spec -` takes the spec.",
        ),
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the job until it is over.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole job as JSON, in place of its id.")] = False,
    **values: Any,
) -> None:
    """Submit a job and print its id.

    Only the model and how much to remove are needed; every other default is the service's. A TEXT is `self`,
    `FILE`, `FILE@START:STOP`, `upload:ID`, `wikitext2`, `ptb`, `c4` or
    `hub:ID,config=…,split=…,column=…`.
    """
    body = spec_of(values, model=model, source=source, revision=revision, file=spec, label=label)
    if dry_run:
        look_at(lambda: _check(body))
        out.print_json(data=body)
        _estimate_beside(body)
        return
    with connect() as client:
        job = client.jobs.create(body, idempotency_key=idempotency_key, cancel_after=cancel_after)
        if not as_json:
            print(job.id)
            _time_beside(client, body)
        if watch:
            job = show(client, job.id)
        if as_json:
            print(job.model_dump_json())
        if watch:
            end_unless_succeeded(job)
        else:
            err.print(f"[dim]Follow it with[/] secateur watch {short(job.id)}")


def _estimate_beside(body: dict[str, Any]) -> None:
    """What the service says that it will take, where one answers: a dry run needs none."""
    from secateur.client.errors import Unreachable

    with connect() as client:
        try:
            found = client.jobs.estimate(body)
        except Unreachable:
            err.print("[dim]No service answers, so there is no estimate of what the job would take.[/]")
            return
    show_estimate(found, err)


def _time_beside(client: Client, body: dict[str, Any]) -> None:
    """How long the job may take, where that is known; it has been submitted, so nothing is wrong where it is not."""
    from secateur.client.errors import ClientError
    from secateur.contract.errors import ServiceError

    try:
        said = time_in_words(client.jobs.estimate(body))
    except (ClientError, ServiceError):
        return
    if said:
        err.print(f"[dim]{said}[/]")


def _check(body: dict[str, Any]) -> None:
    """Raises InvalidInput where the spec's fields are wrong."""
    from secateur.contract.spec import CompressionSpec

    validated(CompressionSpec, body)


submit = spec_command(_submit)
