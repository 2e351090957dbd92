"""`secateur publish`: a job's result goes to where a team keeps its models."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from secateur.cli.job_ids import JobId, find
from secateur.cli.progress import downloads
from secateur.cli.session import Exit, connect, err, fail, plain, usage
from secateur.cli.watch import end_unless_succeeded

FORMS = "hub:ORG/NAME, mlflow:URI, wandb:PROJECT"  # of the table of targets, which takes long to load


def publish(
    job_id: JobId,
    to: Annotated[list[str], typer.Option("--to", metavar="TARGET", help=f"{FORMS}. May be given again.")],
    variant: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A variant by its name in the report, such as recovered-int8, in place of the final one; a GGUF file "
            "may go along: give it again.",
        ),
    ] = None,
    even_if_failed: Annotated[
        bool, typer.Option("--even-if-failed", help="Publish it although its gates failed.")
    ] = False,
    public: Annotated[
        bool, typer.Option("--public", help="hub: a repository that has to be made is public; private if absent.")
    ] = False,
    base_model: Annotated[
        str | None,
        typer.Option(metavar="ORG/NAME", help="hub: the original there, for the card of a job on a local model."),
    ] = None,
    experiment: Annotated[
        str, typer.Option(metavar="NAME", help="mlflow: the experiment, made where there is none.")
    ] = "secateur",
    register: Annotated[
        str | None, typer.Option(metavar="NAME", help="mlflow: make it a version of this registered model.")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Download to FOLDER, and leave it there; if absent, to a cache that is cleared."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line for each target.")] = False,
) -> None:
    """Publish what a job has made: to a repository of the hub, or as a run of MLflow or W&B.

    The result is fetched from the service and sent on from here, with your own credentials: HF_TOKEN, or what `hf auth
    login` has left; MLFLOW_TRACKING_TOKEN; WANDB_API_KEY. Doing it again sends what is missing, and no more.

    Exit codes: 0 published, 2 usage, or no such result, 10 a gate failed, 20 the job failed, 21 it was cancelled, 40 no
    answer, or refused.
    """
    from secateur.client.errors import GatesFailed, NotPublishable

    with connect() as client:
        found = find(client, job_id)
        end_unless_succeeded(client.jobs.retrieve(found))
        for target in to:
            try:
                with downloads() as advance:
                    done = client.jobs.publish(
                        found,
                        target,
                        variants=variant or (),
                        even_if_failed=even_if_failed,
                        public=public,
                        base_model=base_model,
                        experiment=experiment,
                        register=register,
                        folder=folder,
                        progress=advance,
                        quiet=not err.is_terminal,
                    )
            except GatesFailed as error:
                fail(f"{error}; --even-if-failed publishes it all the same")
                raise typer.Exit(Exit.GATE_FAILED) from None
            except NotPublishable as error:
                raise usage(str(error)) from None
            if as_json:
                print(json.dumps(asdict(done)))
                continue
            err.print(
                f"[dim]{'published' if done.changed else 'all of it was there already'}: {plain(done.version)}[/]"
            )
            print(done.url)
