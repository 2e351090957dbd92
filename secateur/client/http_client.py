"""The HTTP client: typed, sync, and patient. The `secateur` command and the examples are built on it.

    with Client("http://127.0.0.1:8000") as client:
        spec = {"model": {"source": "local", "path": "model.gguf"}, "pruning": {"kind": "depth", "blocks": 6}}
        job = client.submit(spec)
        for event in client.events(job.id):
            print(event.type, event.data)
        print(client.report(job.id).verdict)

It needs neither a server's nor torch's packages. Requests that may be repeated are: reads, cancels, and submissions,
which always carry an idempotency key. Events come by a stream that reconnects where it was; where a proxy does not let
streams through, by polling every 5 to 60 s with jitter.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

import httpx
from pydantic import BaseModel, ValidationError

from secateur.client.download import download_file, safe_destination, sha256_of
from secateur.client.errors import RateLimited, ServiceFailed, UnexpectedAnswer, Unreachable, WaitTimedOut, refused
from secateur.client.event_stream import read_events
from secateur.contract.jobs import Verdict
from secateur.contract.results import Report
from secateur.contract.spec import CompressionSpec
from secateur.schemas.artifacts import Artifact, ArtifactList
from secateur.schemas.catalog import Catalog
from secateur.schemas.datasets import Dataset
from secateur.schemas.events import Event, EventPage, LogLine, LogPage
from secateur.schemas.health import Health, Readiness
from secateur.schemas.jobs import Job, JobSummary
from secateur.schemas.page import Page

DEFAULT_URL = "http://127.0.0.1:8000"
REPORT_TYPES = {
    "json": "application/json",
    "html": "text/html",
    "md": "text/markdown",
    "junit": "application/xml",
}
TRIES = 4  # of one request that may be repeated
STREAM_SILENCE_SECONDS = 45.0  # the service pings more often than that
STREAM_FAILURES = 3  # in a row, without an event: then poll
POLL_SECONDS = (5.0, 60.0)
CHECKING_SECONDS = 600.0  # until an upload is answered: every row of it is looked at first
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

Model = TypeVar("Model", bound=BaseModel)
Clock = Callable[[], float]


class Client:
    """A connection to one service. Close it, or use it as a context manager."""

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Clock = time.monotonic,
    ) -> None:
        """`url` and `api_key` default to SECATEUR_URL and SECATEUR_API_KEY; the rest is for tests."""
        key = api_key or os.environ.get("SECATEUR_API_KEY")
        self.url = (url or os.environ.get("SECATEUR_URL") or DEFAULT_URL).rstrip("/")
        self._http = httpx.Client(
            base_url=self.url,
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=timeout,
            transport=transport,
            trust_env=httpx.URL(self.url).host not in _LOOPBACK,  # no proxy stands before this machine itself
        )
        self._sleep = sleep
        self._clock = clock

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # --- jobs ------------------------------------------------------------------------------------------------

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
        body = spec.model_dump(mode="json") if isinstance(spec, CompressionSpec) else dict(spec)
        headers = {"idempotency-key": idempotency_key or str(uuid4())}
        if cancel_after:
            headers["cancel-after"] = cancel_after
        return self._model(Job, "POST", "/jobs", json=body, headers=headers)

    def job(self, job_id: UUID | str) -> Job:
        """One job with its stages and its spec."""
        return self._model(Job, "GET", f"/jobs/{job_id}")

    def jobs(
        self,
        *,
        state: str | None = None,
        verdict: Verdict | str | None = None,
        model: str | None = None,
        labels: Mapping[str, str] | None = None,
        page_size: int = 50,
    ) -> Iterator[JobSummary]:
        """Jobs, the newest first; pages are fetched as they are needed."""
        params: dict[str, Any] = {"limit": page_size, "status": state, "verdict": verdict, "model": model}
        params = {name: str(value) for name, value in params.items() if value is not None}
        params |= {"label": [f"{name}={value}" for name, value in labels.items()]} if labels else {}
        while True:
            page = self._model(Page[JobSummary], "GET", "/jobs", params=params)
            yield from page.data
            if not page.has_more or page.next_cursor is None:
                return
            params["cursor"] = page.next_cursor

    def cancel(self, job_id: UUID | str) -> Job:
        """Ask for a cancel; asking again does no harm."""
        return self._model(Job, "POST", f"/jobs/{job_id}/cancel")

    def retry(self, job_id: UUID | str) -> Job:
        """A new attempt of a failed or cancelled job, from its last checkpoint."""
        return self._model(Job, "POST", f"/jobs/{job_id}/retry", repeat=False)

    def delete(self, job_id: UUID | str) -> None:
        """Remove a finished job and its artifacts."""
        self._request("DELETE", f"/jobs/{job_id}")

    # --- following a job -------------------------------------------------------------------------------------

    def events(self, job_id: UUID | str, *, after: int = 0, timeout: float | None = None) -> Iterator[Event]:
        """Every event above number `after` until the job is over: none is missed and none comes twice.

        Raises:
            WaitTimedOut: the job is not over after `timeout` seconds.
        """
        deadline = None if timeout is None else self._clock() + timeout
        seq, quiet, errors, polling = after, 0, 0, False
        delay = POLL_SECONDS[0]
        while True:
            before, asked_to_wait = seq, 0.0
            try:
                for event in self._poll(job_id, seq) if polling else self._stream(job_id, seq, deadline):
                    seq = event.seq
                    yield event
                job = self.job(job_id)
                if job.state.terminal and job.last_event_seq <= seq:
                    return
                errors = 0
            except _Expired:
                pass
            except (Unreachable, RateLimited, ServiceFailed) as error:
                errors += 1
                if errors >= STREAM_FAILURES + TRIES:
                    raise
                asked_to_wait = getattr(error, "retry_after", None) or 0.0
            left = None if deadline is None else deadline - self._clock()
            if left is not None and left <= 0:
                raise WaitTimedOut(UUID(str(job_id)), timeout or 0.0)
            quiet = 0 if seq > before else quiet + 1
            polling = polling or quiet >= STREAM_FAILURES
            if polling:
                delay = POLL_SECONDS[0] if seq > before else min(delay * 1.5, POLL_SECONDS[1])
            pause = max(_jittered(delay if polling else 0.5 * quiet), asked_to_wait)
            self._sleep(pause if left is None else min(pause, left))

    def wait(
        self, job_id: UUID | str, *, timeout: float | None = None, on_event: Callable[[Event], None] | None = None
    ) -> Job:
        """Wait until the job is over; the finished job. Raises WaitTimedOut."""
        for event in self.events(job_id, timeout=timeout):
            if on_event is not None:
                on_event(event)
        return self.job(job_id)

    def logs(self, job_id: UUID | str) -> Iterator[LogLine]:
        """The lines that the stages have logged so far."""
        after = 0
        while True:
            page = self._model(LogPage, "GET", f"/jobs/{job_id}/logs", params={"after": after})
            yield from page.data
            if not page.has_more:
                return
            after = page.next_after

    def _stream(self, job_id: UUID | str, after: int, deadline: float | None) -> Iterator[Event]:
        """Events of one connection, until the service ends it or it breaks."""
        headers = {"accept": "text/event-stream", "last-event-id": str(after)}
        silence = STREAM_SILENCE_SECONDS
        if deadline is not None:
            silence = min(silence, max(0.1, deadline - self._clock()))
        timeout = httpx.Timeout(self._http.timeout.connect, read=silence)
        try:
            with self._http.stream("GET", f"/jobs/{job_id}/events", headers=headers, timeout=timeout) as response:
                if response.status_code >= 400:
                    raise refused(response.status_code, response.read(), response.headers)
                if not response.headers.get("content-type", "").startswith("text/event-stream"):
                    raise Unreachable("the answer is no event stream")
                for message in read_events(response.iter_lines()):
                    if deadline is not None and self._clock() >= deadline:
                        raise _Expired
                    if message.comment or not message.id:
                        continue
                    event = self._parsed(Event, message.data)
                    if event.seq > after:
                        after = event.seq
                        yield event
        except httpx.TransportError as error:
            if deadline is not None and self._clock() >= deadline:
                raise _Expired from error
            raise Unreachable(f"the event stream broke: {error}") from error

    def _poll(self, job_id: UUID | str, after: int) -> Iterator[Event]:
        """The events that are there now."""
        while True:
            params = {"after": after, "limit": 500}
            page = self._model(EventPage, "GET", f"/jobs/{job_id}/events", params=params)
            yield from page.data
            after = page.next_after
            if not page.has_more:
                return

    # --- results ---------------------------------------------------------------------------------------------

    def report(self, job_id: UUID | str) -> Report:
        """The report of a job that has succeeded."""
        return self._parsed(Report, self.report_text(job_id, "json"))

    def report_text(self, job_id: UUID | str, format: str = "md") -> str:
        """The report as `json`, `html`, `md` or `junit`."""
        return self._request("GET", f"/jobs/{job_id}/report", headers={"accept": REPORT_TYPES[format]}).text

    def artifacts(self, job_id: UUID | str) -> list[Artifact]:
        """The files that the job has published."""
        return self._model(ArtifactList, "GET", f"/jobs/{job_id}/artifacts").data

    def download(
        self,
        job_id: UUID | str,
        destination: Path,
        *,
        prefix: str = "",
        progress: Callable[[Artifact, int], None] | None = None,
    ) -> list[Path]:
        """Download every artifact whose path begins with `prefix` into `destination`; the files' paths.

        A file that is there already, whole, is left alone; a partial download is resumed; every file is checked
        against its published checksum before it gets its name. `progress` gets the file and its bytes so far.

        Raises:
            ChecksumMismatch: a file differs from what was published, twice in a row.
        """
        chosen = [artifact for artifact in self.artifacts(job_id) if artifact.path.startswith(prefix)]
        paths = []
        for artifact in chosen:
            path = safe_destination(destination, artifact.path)
            url = f"/jobs/{job_id}/artifacts/{artifact.path}"
            download_file(self._http, url, path, artifact, progress, self._sleep)
            paths.append(path)
        return paths

    # --- data sets -------------------------------------------------------------------------------------------

    def add_dataset(self, path: Path, *, name: str | None = None, format: str | None = None) -> Dataset:
        """Upload a file of JSON lines, plain text or Parquet, with its checksum; a job names it by its id.

        The same content again gives the same data set. `format` is told by the name unless given: `jsonl`, `text`
        or `parquet`.

        Raises:
            InvalidRequest: its problem names the first line that cannot be used, or the limit of the size.
        """
        fields = {"name": name, "format": format, "sha256": sha256_of(path)}
        data = {field: value for field, value in fields.items() if value is not None}
        with path.open("rb") as file:  # which is read from its start again where the request is repeated
            timeout = httpx.Timeout(self._http.timeout.connect, read=CHECKING_SECONDS)
            files = {"file": (path.name, file)}
            return self._model(Dataset, "POST", "/datasets", data=data, files=files, timeout=timeout)

    def datasets(self, *, page_size: int = 50) -> Iterator[Dataset]:
        """Data sets, the newest first; pages are fetched as they are needed."""
        params: dict[str, Any] = {"limit": page_size}
        while True:
            page = self._model(Page[Dataset], "GET", "/datasets", params=params)
            yield from page.data
            if not page.has_more or page.next_cursor is None:
                return
            params["cursor"] = page.next_cursor

    def dataset(self, dataset_id: UUID | str) -> Dataset:
        """One data set."""
        return self._model(Dataset, "GET", f"/datasets/{dataset_id}")

    def delete_dataset(self, dataset_id: UUID | str) -> None:
        """Remove a data set. Raises Conflict while a job that is not over uses it."""
        self._request("DELETE", f"/datasets/{dataset_id}")

    # --- the service -----------------------------------------------------------------------------------------

    def catalog(self) -> Catalog:
        """What the service offers."""
        return self._model(Catalog, "GET", "/catalog")

    def health(self) -> Health:
        """That the API process answers, and which one."""
        return self._model(Health, "GET", "/healthz", repeat=False)

    def ready(self) -> Readiness:
        """Whether the service can work, check by check."""
        response = self._send("GET", "/readyz")
        if response.status_code not in (200, 503):
            raise refused(response.status_code, response.content, response.headers)
        return self._parsed(Readiness, response.content)

    # --- requests --------------------------------------------------------------------------------------------

    def _model(self, model: type[Model], method: str, path: str, *, repeat: bool = True, **arguments: Any) -> Model:
        return self._parsed(model, self._request(method, path, repeat=repeat, **arguments).content)

    def _parsed(self, model: type[Model], content: bytes | str) -> Model:
        try:
            return model.model_validate_json(content)
        except ValidationError as error:
            detail = f"{self.url} does not answer as a service of this version does: no {model.__name__}"
            raise UnexpectedAnswer(detail) from error

    def _request(self, method: str, path: str, *, repeat: bool = True, **arguments: Any) -> httpx.Response:
        """One request, repeated while that may help and does no harm; raises ClientError."""
        for attempt in range(1, TRIES + 1):
            last = attempt == TRIES or not repeat
            delay = 0.5 * 2 ** (attempt - 1)
            try:
                response = self._send(method, path, **arguments)
                if response.status_code < 400:
                    return response
                raise refused(response.status_code, response.content, response.headers)
            except Unreachable:
                if last:
                    raise
            except (RateLimited, ServiceFailed) as error:
                if last or error.problem.status == 500:
                    raise
                delay = max(delay, error.retry_after or 0.0)
            self._sleep(_jittered(delay))
        raise AssertionError("unreachable: the last try returns or raises")

    def _send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **arguments)
        except httpx.TransportError as error:
            raise Unreachable(f"{self.url} does not answer: {error}") from error


class _Expired(Exception):
    """The deadline passed in the middle of a stream."""


def _jittered(seconds: float) -> float:
    """Within a quarter of `seconds`, so that many clients do not come at once."""
    return seconds * random.uniform(0.75, 1.25)
