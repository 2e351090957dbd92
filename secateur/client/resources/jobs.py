"""Jobs, from an estimate to the download of what came of them: `client.jobs`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, Unpack
from uuid import UUID

from secateur.client.connection import each, finish
from secateur.client.download import Progress, download_file, safe_destination
from secateur.client.following import follow
from secateur.client.job_progress import JobProgress, progress_of
from secateur.client.publishing.publish import publish
from secateur.client.publishing.target import Asked, Options, Published
from secateur.client.requests import Requests, submission_headers
from secateur.contract.comparison import JobComparison
from secateur.contract.jobs import Verdict
from secateur.contract.report import Report
from secateur.contract.results import Scores
from secateur.contract.spec import CompressionSpec
from secateur.report.forms import FORMS
from secateur.schemas.artifacts import Artifact, ArtifactList
from secateur.schemas.estimates import Estimate
from secateur.schemas.events import Event, LogLine, LogPage
from secateur.schemas.jobs import Job, JobSummary
from secateur.schemas.page import Page

Artifacts = list[Artifact]  # in a class that has a method `list`, the word means that
Paths = list[Path]


class AsyncJobs:
    """Jobs: submitted, followed, and what came of them."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    async def create(
        self,
        spec: CompressionSpec | Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        cancel_after: str | None = None,
    ) -> Job:
        """Submit a job. The same key with the same spec gives the job that was made first.

        `cancel_after` is a duration such as "90s" or "2h": the job is cancelled if it is not over by then.
        """
        body = spec.model_dump(mode="json") if isinstance(spec, CompressionSpec) else dict(spec)
        headers = submission_headers(idempotency_key, cancel_after)
        return await self._requests.model(Job, "POST", "/jobs", json=body, headers=headers)

    async def estimate(self, spec: CompressionSpec | Mapping[str, Any]) -> Estimate:
        """What a job of this spec will take and give. It is checked as its submission is, and nothing is queued.

        It is asked for once: where the service does not answer, that is told at once.
        """
        body = spec.model_dump(mode="json") if isinstance(spec, CompressionSpec) else dict(spec)
        return await self._requests.model(Estimate, "POST", "/estimates", json=body, repeat=False)

    async def retrieve(self, job_id: UUID | str) -> Job:
        """One job with its stages and its spec."""
        return await self._requests.model(Job, "GET", f"/jobs/{job_id}")

    def list(
        self,
        *,
        state: str | None = None,
        verdict: Verdict | str | None = None,
        model: str | None = None,
        labels: Mapping[str, str] | None = None,
        part_of_id: str | None = None,
        page_size: int = 50,
    ) -> AsyncGenerator[JobSummary]:
        """Jobs, the newest first; pages are fetched as they are needed.

        `part_of_id` is how an id begins or ends, four characters at least.
        """
        params: dict[str, Any] = {"limit": page_size, "status": state, "verdict": verdict, "model": model}
        params["id"] = part_of_id
        params = {name: str(value) for name, value in params.items() if value is not None}
        params |= {"label": [f"{name}={value}" for name, value in labels.items()]} if labels else {}
        return self._requests.pages(Page[JobSummary], "/jobs", params)

    async def cancel(self, job_id: UUID | str) -> Job:
        """Ask for a cancel; asking again does no harm."""
        return await self._requests.model(Job, "POST", f"/jobs/{job_id}/cancel")

    async def retry(self, job_id: UUID | str) -> Job:
        """A new attempt of a failed or cancelled job, from its last checkpoint."""
        return await self._requests.model(Job, "POST", f"/jobs/{job_id}/retry", repeat=False)

    async def delete(self, job_id: UUID | str) -> None:
        """Remove a finished job and its artifacts."""
        await self._requests.send("DELETE", f"/jobs/{job_id}")

    def events(self, job_id: UUID | str, *, after: int = 0, timeout: float | None = None) -> AsyncGenerator[Event]:
        """Every event above number `after` until the job is over: none is missed and none comes twice.

        Raises:
            WaitTimedOut: the job is not over after `timeout` seconds.
        """
        return follow(self._requests, job_id, after=after, timeout=timeout)

    async def wait(
        self,
        job_id: UUID | str,
        *,
        timeout: float | None = None,
        on_event: Callable[[Event], None] | None = None,
        on_progress: Callable[[JobProgress], None] | None = None,
    ) -> Job:
        """Wait until the job is over; the finished job.

        Args:
            on_event: is told everything that happens.
            on_progress: is told how far the stage at hand is, and what it uses of its machine.

        Raises:
            WaitTimedOut: the job is not over after `timeout` seconds.
        """
        async with aclosing(self.events(job_id, timeout=timeout)) as events:
            async for event in events:
                if on_event is not None:
                    on_event(event)
                if on_progress is not None and (progress := progress_of(event)) is not None:
                    on_progress(progress)
        return await self.retrieve(job_id)

    async def logs(self, job_id: UUID | str) -> AsyncGenerator[LogLine]:
        """The lines that the stages have logged so far."""
        after = 0
        while True:
            page = await self._requests.model(LogPage, "GET", f"/jobs/{job_id}/logs", params={"after": after})
            for line in page.data:
                yield line
            if not page.has_more:
                return
            after = page.next_after

    async def scores(self, job_id: UUID | str) -> Scores:
        """Every block's score, and once pruning has chosen, which blocks go. Raises Conflict before there are any."""
        return await self._requests.model(Scores, "GET", f"/jobs/{job_id}/scores")

    async def report(self, job_id: UUID | str) -> Report:
        """The report of a job that has succeeded."""
        return self._requests.parsed(Report, await self.report_text(job_id, "json"))

    async def report_text(self, job_id: UUID | str, format: str = "md") -> str:
        """The report in one of its forms: `json`, `html`, `md`, `junit`."""
        headers = {"accept": FORMS[format].media_type}
        return (await self._requests.send("GET", f"/jobs/{job_id}/report", headers=headers)).text

    async def compare(self, job_id: UUID | str, other_id: UUID | str) -> JobComparison:
        """What differs between two jobs that have succeeded, in their specs and in every figure that both have."""
        return await self._requests.model(JobComparison, "GET", f"/jobs/{job_id}/compare/{other_id}")

    async def artifacts(self, job_id: UUID | str) -> Artifacts:
        """The files that the job has published."""
        return (await self._requests.model(ArtifactList, "GET", f"/jobs/{job_id}/artifacts")).data

    async def download(
        self,
        job_id: UUID | str,
        destination: Path,
        *,
        prefix: str = "",
        progress: Progress | None = None,
    ) -> Paths:
        """Download every artifact whose path begins with `prefix` into `destination`; the files' paths.

        A file that is there already, whole, is left alone; a partial download is resumed; every file is checked
        against its published checksum before it gets its name. `progress` gets the file and its bytes so far.

        Raises:
            ChecksumMismatch: a file differs from what was published, twice in a row.
        """
        paths = []
        for artifact in await self.artifacts(job_id):
            if artifact.path.startswith(prefix):
                paths.append(safe_destination(destination, artifact.path))
                url = f"/jobs/{job_id}/artifacts/{artifact.path}"
                await download_file(self._requests.connection, url, paths[-1], artifact, progress)
        return paths

    async def publish(
        self,
        job_id: UUID | str,
        to: str,
        *,
        folder: Path | None = None,
        progress: Progress | None = None,
        **options: Unpack[Asked],
    ) -> Published:
        """Publish what a job has made, with this process's own credentials.

        `to` is `hub:ORG/NAME`, `mlflow:URI` or `wandb:PROJECT`. Files are downloaded to `folder`, or to a cache that
        goes in the end. What else may be given is in `Options`.

        Raises:
            NotPublishable: the job is not over or has no such checkpoint, or there is no such target.
            GatesFailed: its gates failed, and there is no `even_if_failed`.
            TargetFailed: the target refuses it, or does not answer.
        """
        asked = Options(**options)
        connection = self._requests.connection
        return await publish(self, connection, job_id, to, asked, folder=folder, progress=progress)


class Jobs:
    """Jobs: submitted, followed, and what came of them."""

    def __init__(self, calls: AsyncJobs) -> None:
        self._calls = calls

    def create(
        self,
        spec: CompressionSpec | Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        cancel_after: str | None = None,
    ) -> Job:
        """Submit a job. The same key with the same spec gives the job that was made first.

        `cancel_after` is a duration such as "90s" or "2h": the job is cancelled if it is not over by then.
        """
        return finish(self._calls.create(spec, idempotency_key=idempotency_key, cancel_after=cancel_after))

    def estimate(self, spec: CompressionSpec | Mapping[str, Any]) -> Estimate:
        """What a job of this spec will take and give. It is checked as its submission is, and nothing is queued.

        It is asked for once: where the service does not answer, that is told at once.
        """
        return finish(self._calls.estimate(spec))

    def retrieve(self, job_id: UUID | str) -> Job:
        """One job with its stages and its spec."""
        return finish(self._calls.retrieve(job_id))

    def list(
        self,
        *,
        state: str | None = None,
        verdict: Verdict | str | None = None,
        model: str | None = None,
        labels: Mapping[str, str] | None = None,
        part_of_id: str | None = None,
        page_size: int = 50,
    ) -> Iterator[JobSummary]:
        """Jobs, the newest first; pages are fetched as they are needed.

        `part_of_id` is how an id begins or ends, four characters at least.
        """
        return each(
            self._calls.list(
                state=state,
                verdict=verdict,
                model=model,
                labels=labels,
                part_of_id=part_of_id,
                page_size=page_size,
            )
        )

    def cancel(self, job_id: UUID | str) -> Job:
        """Ask for a cancel; asking again does no harm."""
        return finish(self._calls.cancel(job_id))

    def retry(self, job_id: UUID | str) -> Job:
        """A new attempt of a failed or cancelled job, from its last checkpoint."""
        return finish(self._calls.retry(job_id))

    def delete(self, job_id: UUID | str) -> None:
        """Remove a finished job and its artifacts."""
        finish(self._calls.delete(job_id))

    def events(self, job_id: UUID | str, *, after: int = 0, timeout: float | None = None) -> Iterator[Event]:
        """Every event above number `after` until the job is over: none is missed and none comes twice.

        Raises:
            WaitTimedOut: the job is not over after `timeout` seconds.
        """
        return each(self._calls.events(job_id, after=after, timeout=timeout))

    def wait(
        self,
        job_id: UUID | str,
        *,
        timeout: float | None = None,
        on_event: Callable[[Event], None] | None = None,
        on_progress: Callable[[JobProgress], None] | None = None,
    ) -> Job:
        """Wait until the job is over; the finished job.

        Args:
            on_event: is told everything that happens.
            on_progress: is told how far the stage at hand is, and what it uses of its machine.

        Raises:
            WaitTimedOut: the job is not over after `timeout` seconds.
        """
        return finish(self._calls.wait(job_id, timeout=timeout, on_event=on_event, on_progress=on_progress))

    def logs(self, job_id: UUID | str) -> Iterator[LogLine]:
        """The lines that the stages have logged so far."""
        return each(self._calls.logs(job_id))

    def scores(self, job_id: UUID | str) -> Scores:
        """Every block's score, and once pruning has chosen, which blocks go. Raises Conflict before there are any."""
        return finish(self._calls.scores(job_id))

    def report(self, job_id: UUID | str) -> Report:
        """The report of a job that has succeeded."""
        return finish(self._calls.report(job_id))

    def report_text(self, job_id: UUID | str, format: str = "md") -> str:
        """The report in one of its forms: `json`, `html`, `md`, `junit`."""
        return finish(self._calls.report_text(job_id, format))

    def compare(self, job_id: UUID | str, other_id: UUID | str) -> JobComparison:
        """What differs between two jobs that have succeeded, in their specs and in every figure that both have."""
        return finish(self._calls.compare(job_id, other_id))

    def artifacts(self, job_id: UUID | str) -> Artifacts:
        """The files that the job has published."""
        return finish(self._calls.artifacts(job_id))

    def download(
        self,
        job_id: UUID | str,
        destination: Path,
        *,
        prefix: str = "",
        progress: Progress | None = None,
    ) -> Paths:
        """Download every artifact whose path begins with `prefix` into `destination`; the files' paths.

        A file that is there already, whole, is left alone; a partial download is resumed; every file is checked
        against its published checksum before it gets its name. `progress` gets the file and its bytes so far.

        Raises:
            ChecksumMismatch: a file differs from what was published, twice in a row.
        """
        return finish(self._calls.download(job_id, destination, prefix=prefix, progress=progress))

    def publish(
        self,
        job_id: UUID | str,
        to: str,
        *,
        folder: Path | None = None,
        progress: Progress | None = None,
        **options: Unpack[Asked],
    ) -> Published:
        """Publish what a job has made, with this process's own credentials.

        `to` is `hub:ORG/NAME`, `mlflow:URI` or `wandb:PROJECT`. Files are downloaded to `folder`, or to a cache that
        goes in the end. What else may be given is in `Options`.

        Raises:
            NotPublishable: the job is not over or has no such checkpoint, or there is no such target.
            GatesFailed: its gates failed, and there is no `even_if_failed`.
            TargetFailed: the target refuses it, or does not answer.
        """
        return finish(self._calls.publish(job_id, to, folder=folder, progress=progress, **options))
