"""Publishing the result of a finished job: fetched from the service, and sent on with the caller's own credentials.

The service never learns them. Whatever can be refused is refused before anything is downloaded. Where sending fails,
the files that were downloaded are kept, so that the next try begins with them.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Protocol
from uuid import UUID

from secateur.client.connection import Connection
from secateur.client.download import Progress
from secateur.client.errors import GatesFailed, NotPublishable
from secateur.client.publishing.places import CARD, Place, chosen, places
from secateur.client.publishing.target import Finished, Options, Published, find_target
from secateur.client.publishing.workspace import workspace
from secateur.contract.jobs import State, Verdict
from secateur.contract.report import Report
from secateur.contract.stage_kinds import REPORT
from secateur.report.forms import FORMS
from secateur.report.text import listed
from secateur.schemas.artifacts import Artifact
from secateur.schemas.jobs import Job

_BESIDE = (CARD.lower(), "license", "licence", "notice", "use_policy", "copying")  # how their names begin


class Calls(Protocol):
    """As much of the client's jobs as is needed."""

    async def retrieve(self, job_id: UUID | str) -> Job: ...
    async def report(self, job_id: UUID | str) -> Report: ...
    async def artifacts(self, job_id: UUID | str) -> list[Artifact]: ...
    async def download(
        self, job_id: UUID | str, destination: Path, *, prefix: str = "", progress: Progress | None = None
    ) -> list[Path]: ...


async def publish(
    calls: Calls,
    connection: Connection,
    job_id: UUID | str,
    to: str,
    options: Options,
    *,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> Published:
    """Publish what a job has made.

    Args:
        folder: where files are downloaded to, and stay; a folder of the user's cache, which goes in the end, if None.

    Raises:
        NotPublishable: the job is not over, has no such checkpoint, or is not to be published; no such target.
        TargetFailed: the target refuses it, or does not answer.
        ClientError: what reading from the service raises.
    """
    target = await connection.work(partial(find_target, to, options))  # which loads a library
    job = await calls.retrieve(job_id)
    if job.asked_of is not None:
        raise NotPublishable(f"job {job.id} answers a question and makes no model; publish job {job.asked_of}")
    if job.state is not State.SUCCEEDED:
        raise NotPublishable(f"job {job.id} is {job.state}: only what has succeeded can be published, so wait for it")
    report = await calls.report(job.id)
    if report.verdict is Verdict.FAILED and not options.even_if_failed:
        failed = listed([gate.gate for gate in report.gates if not gate.passed])
        raise GatesFailed(f"job {job.id} failed its gates ({failed}), so it is not published")
    wanted = chosen(report, options.variants)
    artifacts = await calls.artifacts(job.id)
    for place in wanted:
        if not any(place.holds(artifact.path) for artifact in artifacts):
            raise NotPublishable(f"job {job.id} has no files of {place.variant}: there is nothing under {place.path}")
    wanted += _beside(wanted, report, artifacts) if target.needs_files else ()
    wanted += _report(artifacts) if target.needs_report else ()
    await connection.work(target.check)
    with workspace(folder, f"{job.id}-{to.partition(':')[0]}") as there:
        result = Finished(job, report, connection.address.url, wanted, tuple(artifacts), there)
        for place in wanted if target.needs_files else ():  # which brings the report along
            await calls.download(job.id, there, prefix=place.path, progress=progress)
        return await connection.work(partial(target.send, result))


def _beside(wanted: tuple[Place, ...], report: Report, artifacts: list[Artifact]) -> tuple[Place, ...]:
    """Where files alone are published: the card and the licence, which lie in the checkpoint's folder."""
    if any(place.is_folder for place in wanted):
        return ()
    folder = places(report)["recovered" if report.recovered else "pruned"]
    inside = [artifact.path for artifact in artifacts if folder.holds(artifact.path)]
    paths = [path for path in inside if folder.name(path).lower().startswith(_BESIDE)]
    return tuple(Place(folder.variant, path, role="beside") for path in paths)


def _report(artifacts: list[Artifact]) -> tuple[Place, ...]:
    """The report in every form that the job has written."""
    forms = {f"{REPORT.name}/{form.file}" for form in FORMS.values()}
    return tuple(Place(REPORT.name, artifact.path, role="report") for artifact in artifacts if artifact.path in forms)
