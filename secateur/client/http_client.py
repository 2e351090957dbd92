"""The HTTP client: typed, sync, and patient. The `secateur` command and the examples are built on it.

    with Client("http://127.0.0.1:8000") as client:
        spec = {"model": {"source": "local", "path": "model.gguf"}, "pruning": {"kind": "depth", "blocks": 6}}
        job = client.submit(spec)
        for event in client.events(job.id):
            print(event.type, event.data)
        print(client.report(job.id).verdict)

It needs neither a server's nor torch's packages. What its methods do is written once, in `async_client.py`; here they
are run over a connection that blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Unpack
from uuid import UUID

from secateur.client.async_client import AsyncClient
from secateur.client.connection import Address, BlockingConnection, Connection, each, finish
from secateur.client.download import Progress
from secateur.client.publishing.target import Asked, Published
from secateur.contract.comparison import JobComparison
from secateur.contract.jobs import Verdict
from secateur.contract.report import Report
from secateur.contract.spec import CompressionSpec
from secateur.contract.sweep import SweepSpec
from secateur.contract.sweep_report import SweepReport
from secateur.schemas.answers import Answer
from secateur.schemas.artifacts import Artifact
from secateur.schemas.catalog import Catalog
from secateur.schemas.datasets import Dataset, DatasetRows
from secateur.schemas.estimates import Estimate
from secateur.schemas.events import Event, LogLine
from secateur.schemas.health import Health, Readiness
from secateur.schemas.jobs import Job, JobSummary
from secateur.schemas.sweeps import Sweep, SweepSummary, SweepVerdict
from secateur.schemas.workers import Worker


class Client:
    """A connection to one service. Close it, or use it as a context manager."""

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        connect: Callable[[Address], Connection] = BlockingConnection,
    ) -> None:
        """`url` and `api_key` default to SECATEUR_URL and SECATEUR_API_KEY; `connect` is for tests."""
        self._calls = AsyncClient(url, api_key=api_key, timeout=timeout, connect=connect)
        self.url = self._calls.url

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        finish(self._calls.close())

    # --- jobs ---------------------------------------------------------------------------------------------

    def submit(
        self,
        spec: CompressionSpec | Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        cancel_after: str | None = None,
    ) -> Job:
        """Submit a job. The same key with the same spec gives the job that was made first.

        `cancel_after` is a duration such as "90s" or "2h": the job is cancelled if it is not over by then.
        """
        return finish(self._calls.submit(spec, idempotency_key=idempotency_key, cancel_after=cancel_after))

    def estimate(self, spec: CompressionSpec | Mapping[str, Any]) -> Estimate:
        """What a job of this spec will take and give. It is checked as its submission is, and nothing is queued.

        It is asked for once: where the service does not answer, that is told at once.
        """
        return finish(self._calls.estimate(spec))

    def job(self, job_id: UUID | str) -> Job:
        """One job with its stages and its spec."""
        return finish(self._calls.job(job_id))

    def jobs(
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
            self._calls.jobs(
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

    # --- following a job ----------------------------------------------------------------------------------

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
    ) -> Job:
        """Wait until the job is over; the finished job. Raises WaitTimedOut."""
        return finish(self._calls.wait(job_id, timeout=timeout, on_event=on_event))

    def logs(self, job_id: UUID | str) -> Iterator[LogLine]:
        """The lines that the stages have logged so far."""
        return each(self._calls.logs(job_id))

    # --- results ------------------------------------------------------------------------------------------

    def report(self, job_id: UUID | str) -> Report:
        """The report of a job that has succeeded."""
        return finish(self._calls.report(job_id))

    def report_text(self, job_id: UUID | str, format: str = "md") -> str:
        """The report in one of its forms: `json`, `html`, `md`, `junit`."""
        return finish(self._calls.report_text(job_id, format))

    def compare(self, job_id: UUID | str, other_id: UUID | str) -> JobComparison:
        """What differs between two jobs that have succeeded, in their specs and in every figure that both have."""
        return finish(self._calls.compare(job_id, other_id))

    def artifacts(self, job_id: UUID | str) -> list[Artifact]:
        """The files that the job has published."""
        return finish(self._calls.artifacts(job_id))

    def download(
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
        """Publish what a job has made, with this process's own credentials: `to` is `hub:ORG/NAME`.

        It is downloaded to `folder`, or to a cache that goes in the end. Options: `variants`, `even_if_failed`,
        `public`, `base_model`, `quiet`.

        Raises:
            NotPublishable: the job is not over or has no such checkpoint, or there is no such target.
            GatesFailed: its gates failed, and there is no `even_if_failed`.
            TargetFailed: the target refuses it, or does not answer.
        """
        return finish(self._calls.publish(job_id, to, folder=folder, progress=progress, **options))

    # --- the playground -----------------------------------------------------------------------------------

    def ask(self, job_id: UUID | str, prompt: str, **options: Any) -> Answer:
        """Put a question to the models of a finished job; `events` of the answer's id has the text as it is written.

        Options are those of the question: `max_tokens`, `temperature`, `chat`, `variants`. `answer` has all of it in
        the end.
        """
        return finish(self._calls.ask(job_id, prompt, **options))

    def answer(self, job_id: UUID | str, answer_id: UUID | str) -> Answer:
        """One question to a job, and what each model has answered once all have."""
        return finish(self._calls.answer(job_id, answer_id))

    def answers(self, job_id: UUID | str) -> list[Answer]:
        """The last questions that a job was asked, the newest first, with their answers."""
        return finish(self._calls.answers(job_id))

    # --- sweeps -------------------------------------------------------------------------------------------

    def submit_sweep(
        self,
        asked: SweepSpec | Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        cancel_after: str | None = None,
    ) -> Sweep:
        """Submit a sweep: a spec with a grid, or with a list of points. The same key gives what was made first."""
        return finish(self._calls.submit_sweep(asked, idempotency_key=idempotency_key, cancel_after=cancel_after))

    def sweep(self, sweep_id: UUID | str) -> Sweep:
        """One sweep with its points."""
        return finish(self._calls.sweep(sweep_id))

    def sweeps(self, *, part_of_id: str | None = None, page_size: int = 50) -> Iterator[SweepSummary]:
        """Sweeps, the newest first; pages are fetched as they are needed. `part_of_id` is as for `jobs`."""
        return each(self._calls.sweeps(part_of_id=part_of_id, page_size=page_size))

    def follow_sweep(self, sweep_id: UUID | str, *, timeout: float | None = None) -> Iterator[Sweep]:
        """The sweep as it is, and whole again each time that a point stands otherwise, until all are over.

        Raises:
            WaitTimedOut: it is not over after `timeout` seconds.
        """
        return each(self._calls.follow_sweep(sweep_id, timeout=timeout))

    def cancel_sweep(self, sweep_id: UUID | str) -> Sweep:
        """Ask for all of its jobs to end; what has succeeded stays."""
        return finish(self._calls.cancel_sweep(sweep_id))

    def retry_sweep(self, sweep_id: UUID | str) -> Sweep:
        """Queue its failed and cancelled points again."""
        return finish(self._calls.retry_sweep(sweep_id))

    def delete_sweep(self, sweep_id: UUID | str) -> None:
        """Remove a sweep that is over, with its jobs."""
        finish(self._calls.delete_sweep(sweep_id))

    def sweep_report(self, sweep_id: UUID | str, *, x: str | None = None, y: str | None = None) -> SweepReport:
        """Its report, or what there is of it so far; points are compared by the metrics `x` and `y`."""
        return finish(self._calls.sweep_report(sweep_id, x=x, y=y))

    def sweep_report_text(
        self, sweep_id: UUID | str, format: str = "md", *, x: str | None = None, y: str | None = None
    ) -> str:
        """The report in one of its forms: `json`, `html`, `md`, `csv`."""
        return finish(self._calls.sweep_report_text(sweep_id, format, x=x, y=y))

    def sweep_verdict(self, sweep_id: UUID | str) -> SweepVerdict:
        """Whether a point passes all gates, which is recommended, and why."""
        return finish(self._calls.sweep_verdict(sweep_id))

    # --- data sets ----------------------------------------------------------------------------------------

    def add_dataset(self, path: Path, *, name: str | None = None, format: str | None = None) -> Dataset:
        """Upload a file of JSON lines, plain text or Parquet, with its checksum; a job names it by its id.

        The same content again gives the same data set. `format` is told by the name unless given: `jsonl`, `text`
        or `parquet`.

        Raises:
            InvalidRequest: its problem names the first line that cannot be used, or the limit of the size.
        """
        return finish(self._calls.add_dataset(path, name=name, format=format))

    def datasets(self, *, page_size: int = 50) -> Iterator[Dataset]:
        """Data sets, the newest first; pages are fetched as they are needed."""
        return each(self._calls.datasets(page_size=page_size))

    def dataset(self, dataset_id: UUID | str) -> Dataset:
        """One data set."""
        return finish(self._calls.dataset(dataset_id))

    def dataset_rows(
        self, dataset_id: UUID | str, *, limit: int = 10, characters: int = 2000, model: str | None = None
    ) -> DatasetRows:
        """Its first rows; with a local `model`, also what that sees of each, after its chat template."""
        return finish(self._calls.dataset_rows(dataset_id, limit=limit, characters=characters, model=model))

    def delete_dataset(self, dataset_id: UUID | str) -> None:
        """Remove a data set. Raises Conflict while a job that is not over uses it."""
        finish(self._calls.delete_dataset(dataset_id))

    # --- the service --------------------------------------------------------------------------------------

    def catalog(self) -> Catalog:
        """What the service offers."""
        return finish(self._calls.catalog())

    def workers(self) -> list[Worker]:
        """Who runs the stages of jobs."""
        return finish(self._calls.workers())

    def health(self) -> Health:
        """That the API process answers, and which one."""
        return finish(self._calls.health())

    def ready(self) -> Readiness:
        """Whether the service can work, check by check."""
        return finish(self._calls.ready())
