"""The HTTP client for asyncio, and what both clients do: typed and patient.

    async with AsyncClient("http://127.0.0.1:8000") as client:
        job = await client.submit(spec)
        async for event in client.events(job.id):
            print(event.type, event.data)
        print((await client.report(job.id)).verdict)

Requests that may be repeated are: reads, cancels, and submissions, which always carry an idempotency key. Events come
by a stream that reconnects where it was; where a proxy does not let streams through, by polling every 5 to 60 s with
jitter.

`Client` runs these same methods over a connection that blocks (`connection.py`), so nothing here waits for anything but
its connection.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any, Unpack
from uuid import UUID, uuid4

import httpx

from secateur.client.connection import Address, AsyncConnection, Connection
from secateur.client.download import Progress, download_file, safe_destination, sha256_of
from secateur.client.errors import refused
from secateur.client.following import follow
from secateur.client.publishing.publish import publish
from secateur.client.publishing.target import Asked, Options, Published
from secateur.client.requests import Requests
from secateur.client.sweep_following import follow_sweep
from secateur.contract.comparison import JobComparison
from secateur.contract.jobs import Verdict
from secateur.contract.report import Report
from secateur.contract.spec import CompressionSpec
from secateur.contract.sweep import SweepSpec
from secateur.contract.sweep_report import SweepReport
from secateur.report.forms import FORMS
from secateur.report.sweep_forms import SWEEP_FORMS
from secateur.schemas.answers import Answer, AnswerList
from secateur.schemas.artifacts import Artifact, ArtifactList
from secateur.schemas.catalog import Catalog
from secateur.schemas.datasets import Dataset, DatasetRows
from secateur.schemas.estimates import Estimate
from secateur.schemas.events import Event, LogLine, LogPage
from secateur.schemas.health import Health, Readiness
from secateur.schemas.jobs import Job, JobSummary
from secateur.schemas.page import Page
from secateur.schemas.sweeps import Sweep, SweepSummary, SweepVerdict
from secateur.schemas.workers import Worker, WorkerList

CHECKING_SECONDS = 600.0  # until a data set is looked at: every row of an upload, or some through a tokenizer


class AsyncClient:
    """A connection to one service. Close it, or use it as a context manager."""

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        connect: Callable[[Address], Connection] = AsyncConnection,
    ) -> None:
        """`url` and `api_key` default to SECATEUR_URL and SECATEUR_API_KEY; `connect` is for `Client` and for tests."""
        self._connection = connect(Address.of(url, api_key, timeout))
        self._requests = Requests(self._connection)
        self.url = self._connection.address.url

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._connection.close()

    # --- jobs ---------------------------------------------------------------------------------------------

    async def submit(
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
        headers = _submission_headers(idempotency_key, cancel_after)
        return await self._requests.model(Job, "POST", "/jobs", json=body, headers=headers)

    async def estimate(self, spec: CompressionSpec | Mapping[str, Any]) -> Estimate:
        """What a job of this spec will take and give. It is checked as its submission is, and nothing is queued.

        It is asked for once: where the service does not answer, that is told at once.
        """
        body = spec.model_dump(mode="json") if isinstance(spec, CompressionSpec) else dict(spec)
        return await self._requests.model(Estimate, "POST", "/estimates", json=body, repeat=False)

    async def job(self, job_id: UUID | str) -> Job:
        """One job with its stages and its spec."""
        return await self._requests.model(Job, "GET", f"/jobs/{job_id}")

    def jobs(
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

    # --- following a job ----------------------------------------------------------------------------------

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
    ) -> Job:
        """Wait until the job is over; the finished job. Raises WaitTimedOut."""
        async with aclosing(self.events(job_id, timeout=timeout)) as events:
            async for event in events:
                if on_event is not None:
                    on_event(event)
        return await self.job(job_id)

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

    # --- results ------------------------------------------------------------------------------------------

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

    async def artifacts(self, job_id: UUID | str) -> list[Artifact]:
        """The files that the job has published."""
        return (await self._requests.model(ArtifactList, "GET", f"/jobs/{job_id}/artifacts")).data

    async def download(
        self,
        job_id: UUID | str,
        destination: Path,
        *,
        prefix: str = "",
        progress: Progress | None = None,
    ) -> list[Path]:
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
                await download_file(self._connection, url, paths[-1], artifact, progress)
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
        """Publish what a job has made, with this process's own credentials: `to` is `hub:ORG/NAME`.

        It is downloaded to `folder`, or to a cache that goes in the end. Options: `variants`, `even_if_failed`,
        `public`, `base_model`, `quiet`.

        Raises:
            NotPublishable: the job is not over or has no such checkpoint, or there is no such target.
            GatesFailed: its gates failed, and there is no `even_if_failed`.
            TargetFailed: the target refuses it, or does not answer.
        """
        asked = Options(**options)
        return await publish(self, self._connection, job_id, to, asked, folder=folder, progress=progress)

    # --- the playground -----------------------------------------------------------------------------------

    async def ask(self, job_id: UUID | str, prompt: str, **options: Any) -> Answer:
        """Put a question to the models of a finished job; `events` of the answer's id has the text as it is written.

        Options are those of the question: `max_tokens`, `temperature`, `chat`, `variants`. `answer` has all of it in
        the end.
        """
        body = {"prompt": prompt, **options}
        return await self._requests.model(Answer, "POST", f"/jobs/{job_id}/answers", json=body, repeat=False)

    async def answer(self, job_id: UUID | str, answer_id: UUID | str) -> Answer:
        """One question to a job, and what each model has answered once all have."""
        return await self._requests.model(Answer, "GET", f"/jobs/{job_id}/answers/{answer_id}")

    async def answers(self, job_id: UUID | str) -> list[Answer]:
        """The last questions that a job was asked, the newest first, with their answers."""
        return (await self._requests.model(AnswerList, "GET", f"/jobs/{job_id}/answers")).data

    # --- sweeps -------------------------------------------------------------------------------------------

    async def submit_sweep(
        self,
        asked: SweepSpec | Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        cancel_after: str | None = None,
    ) -> Sweep:
        """Submit a sweep: a spec with a grid, or with a list of points. The same key gives what was made first."""
        body = asked.model_dump(mode="json", exclude_unset=True) if isinstance(asked, SweepSpec) else dict(asked)
        headers = _submission_headers(idempotency_key, cancel_after)
        return await self._requests.model(Sweep, "POST", "/sweeps", json=body, headers=headers)

    async def sweep(self, sweep_id: UUID | str) -> Sweep:
        """One sweep with its points."""
        return await self._requests.model(Sweep, "GET", f"/sweeps/{sweep_id}")

    def sweeps(self, *, part_of_id: str | None = None, page_size: int = 50) -> AsyncGenerator[SweepSummary]:
        """Sweeps, the newest first; pages are fetched as they are needed. `part_of_id` is as for `jobs`."""
        params: dict[str, Any] = {"limit": page_size} | ({"id": part_of_id} if part_of_id is not None else {})
        return self._requests.pages(Page[SweepSummary], "/sweeps", params)

    def follow_sweep(self, sweep_id: UUID | str, *, timeout: float | None = None) -> AsyncGenerator[Sweep]:
        """The sweep as it is, and whole again each time that a point stands otherwise, until all are over.

        Raises:
            WaitTimedOut: it is not over after `timeout` seconds.
        """
        return follow_sweep(self._requests, sweep_id, timeout=timeout)

    async def cancel_sweep(self, sweep_id: UUID | str) -> Sweep:
        """Ask for all of its jobs to end; what has succeeded stays."""
        return await self._requests.model(Sweep, "POST", f"/sweeps/{sweep_id}/cancel")

    async def retry_sweep(self, sweep_id: UUID | str) -> Sweep:
        """Queue its failed and cancelled points again."""
        return await self._requests.model(Sweep, "POST", f"/sweeps/{sweep_id}/retry", repeat=False)

    async def delete_sweep(self, sweep_id: UUID | str) -> None:
        """Remove a sweep that is over, with its jobs."""
        await self._requests.send("DELETE", f"/sweeps/{sweep_id}", repeat=False)

    async def sweep_report(self, sweep_id: UUID | str, *, x: str | None = None, y: str | None = None) -> SweepReport:
        """Its report, or what there is of it so far; points are compared by the metrics `x` and `y`."""
        return self._requests.parsed(SweepReport, await self.sweep_report_text(sweep_id, "json", x=x, y=y))

    async def sweep_report_text(
        self, sweep_id: UUID | str, format: str = "md", *, x: str | None = None, y: str | None = None
    ) -> str:
        """The report in one of its forms: `json`, `html`, `md`, `csv`."""
        params = {name: value for name, value in (("x", x), ("y", y)) if value is not None}
        headers = {"accept": SWEEP_FORMS[format].media_type}
        return (await self._requests.send("GET", f"/sweeps/{sweep_id}/report", params=params, headers=headers)).text

    async def sweep_verdict(self, sweep_id: UUID | str) -> SweepVerdict:
        """Whether a point passes all gates, which is recommended, and why."""
        return await self._requests.model(SweepVerdict, "GET", f"/sweeps/{sweep_id}/verdict")

    # --- data sets ----------------------------------------------------------------------------------------

    async def add_dataset(self, path: Path, *, name: str | None = None, format: str | None = None) -> Dataset:
        """Upload a file of JSON lines, plain text or Parquet, with its checksum; a job names it by its id.

        The same content again gives the same data set. `format` is told by the name unless given: `jsonl`, `text`
        or `parquet`.

        Raises:
            InvalidRequest: its problem names the first line that cannot be used, or the limit of the size.
        """
        digest = await self._connection.work(partial(sha256_of, path))
        fields = {"name": name, "format": format, "sha256": digest}
        data = {field: value for field, value in fields.items() if value is not None}
        timeout = httpx.Timeout(self._connection.address.timeout, read=CHECKING_SECONDS)
        with path.open("rb") as file:  # which is read from its start again where the request is repeated
            files = {"file": (path.name, file)}
            return await self._requests.model(Dataset, "POST", "/datasets", data=data, files=files, timeout=timeout)

    def datasets(self, *, page_size: int = 50) -> AsyncGenerator[Dataset]:
        """Data sets, the newest first; pages are fetched as they are needed."""
        return self._requests.pages(Page[Dataset], "/datasets", {"limit": page_size})

    async def dataset(self, dataset_id: UUID | str) -> Dataset:
        """One data set."""
        return await self._requests.model(Dataset, "GET", f"/datasets/{dataset_id}")

    async def dataset_rows(
        self, dataset_id: UUID | str, *, limit: int = 10, characters: int = 2000, model: str | None = None
    ) -> DatasetRows:
        """Its first rows; with a local `model`, also what that sees of each, after its chat template."""
        query = {"limit": limit, "characters": characters, **({} if model is None else {"model": model})}
        timeout = httpx.Timeout(self._connection.address.timeout, read=CHECKING_SECONDS)
        path = f"/datasets/{dataset_id}/rows"
        return await self._requests.model(DatasetRows, "GET", path, params=query, timeout=timeout)

    async def delete_dataset(self, dataset_id: UUID | str) -> None:
        """Remove a data set. Raises Conflict while a job that is not over uses it."""
        await self._requests.send("DELETE", f"/datasets/{dataset_id}")

    # --- the service --------------------------------------------------------------------------------------

    async def catalog(self) -> Catalog:
        """What the service offers."""
        return await self._requests.model(Catalog, "GET", "/catalog")

    async def workers(self) -> list[Worker]:
        """Who runs the stages of jobs."""
        return (await self._requests.model(WorkerList, "GET", "/workers")).data

    async def health(self) -> Health:
        """That the API process answers, and which one."""
        return await self._requests.model(Health, "GET", "/healthz", repeat=False)

    async def ready(self) -> Readiness:
        """Whether the service can work, check by check."""
        response = await self._requests.once("GET", "/readyz")
        if response.status_code not in (200, 503):
            raise refused(response.status_code, response.content, response.headers)
        return self._requests.parsed(Readiness, response.content)


def _submission_headers(idempotency_key: str | None, cancel_after: str | None) -> dict[str, str]:
    """A submission always has a key, so that it can be repeated."""
    headers = {"idempotency-key": idempotency_key or str(uuid4())}
    return {**headers, "cancel-after": cancel_after} if cancel_after else headers
