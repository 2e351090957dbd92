"""Sweeps, many jobs of one spec: `client.sweeps`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from typing import Any
from uuid import UUID

from secateur.client.connection import each, finish
from secateur.client.requests import Requests, submission_headers
from secateur.client.sweep_following import follow_sweep
from secateur.contract.sweep import SweepSpec
from secateur.contract.sweep_report import SweepReport
from secateur.report.sweep_forms import SWEEP_FORMS
from secateur.schemas.page import Page
from secateur.schemas.sweeps import Sweep, SweepSummary, SweepVerdict


class AsyncSweeps:
    """Sweeps: submitted, followed and reported on."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    async def create(
        self,
        asked: SweepSpec | Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        cancel_after: str | None = None,
    ) -> Sweep:
        """Submit a sweep: a spec with a grid, or with a list of points. The same key gives what was made first."""
        body = asked.model_dump(mode="json", exclude_unset=True) if isinstance(asked, SweepSpec) else dict(asked)
        headers = submission_headers(idempotency_key, cancel_after)
        return await self._requests.model(Sweep, "POST", "/sweeps", json=body, headers=headers)

    async def retrieve(self, sweep_id: UUID | str) -> Sweep:
        """One sweep with its points."""
        return await self._requests.model(Sweep, "GET", f"/sweeps/{sweep_id}")

    def list(self, *, part_of_id: str | None = None, page_size: int = 50) -> AsyncGenerator[SweepSummary]:
        """Sweeps, the newest first; pages are fetched as they are needed. `part_of_id` is as for jobs."""
        params: dict[str, Any] = {"limit": page_size} | ({"id": part_of_id} if part_of_id is not None else {})
        return self._requests.pages(Page[SweepSummary], "/sweeps", params)

    def follow(self, sweep_id: UUID | str, *, timeout: float | None = None) -> AsyncGenerator[Sweep]:
        """The sweep as it is, and whole again each time that a point stands otherwise, until all are over.

        Raises:
            WaitTimedOut: it is not over after `timeout` seconds.
        """
        return follow_sweep(self._requests, sweep_id, timeout=timeout)

    async def wait(
        self,
        sweep_id: UUID | str,
        *,
        timeout: float | None = None,
        on_progress: Callable[[Sweep], None] | None = None,
    ) -> Sweep:
        """Wait until all points are over; the finished sweep. `on_progress` is told it each time that a point moves.

        Raises:
            WaitTimedOut: it is not over after `timeout` seconds.
        """
        async with aclosing(self.follow(sweep_id, timeout=timeout)) as states:
            async for sweep in states:
                if on_progress is not None:
                    on_progress(sweep)
        return sweep

    async def cancel(self, sweep_id: UUID | str) -> Sweep:
        """Ask for all of its jobs to end; what has succeeded stays."""
        return await self._requests.model(Sweep, "POST", f"/sweeps/{sweep_id}/cancel")

    async def retry(self, sweep_id: UUID | str) -> Sweep:
        """Queue its failed and cancelled points again."""
        return await self._requests.model(Sweep, "POST", f"/sweeps/{sweep_id}/retry", repeat=False)

    async def delete(self, sweep_id: UUID | str) -> None:
        """Remove a sweep that is over, with its jobs."""
        await self._requests.send("DELETE", f"/sweeps/{sweep_id}", repeat=False)

    async def report(self, sweep_id: UUID | str, *, x: str | None = None, y: str | None = None) -> SweepReport:
        """Its report, or what there is of it so far; points are compared by the metrics `x` and `y`."""
        return self._requests.parsed(SweepReport, await self.report_text(sweep_id, "json", x=x, y=y))

    async def report_text(
        self, sweep_id: UUID | str, format: str = "md", *, x: str | None = None, y: str | None = None
    ) -> str:
        """The report in one of its forms: `json`, `html`, `md`, `csv`."""
        params = {name: value for name, value in (("x", x), ("y", y)) if value is not None}
        headers = {"accept": SWEEP_FORMS[format].media_type}
        return (await self._requests.send("GET", f"/sweeps/{sweep_id}/report", params=params, headers=headers)).text

    async def verdict(self, sweep_id: UUID | str) -> SweepVerdict:
        """Whether a point passes all gates, which is recommended, and why."""
        return await self._requests.model(SweepVerdict, "GET", f"/sweeps/{sweep_id}/verdict")


class Sweeps:
    """Sweeps: submitted, followed and reported on."""

    def __init__(self, calls: AsyncSweeps) -> None:
        self._calls = calls

    def create(
        self,
        asked: SweepSpec | Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        cancel_after: str | None = None,
    ) -> Sweep:
        """Submit a sweep: a spec with a grid, or with a list of points. The same key gives what was made first."""
        return finish(self._calls.create(asked, idempotency_key=idempotency_key, cancel_after=cancel_after))

    def retrieve(self, sweep_id: UUID | str) -> Sweep:
        """One sweep with its points."""
        return finish(self._calls.retrieve(sweep_id))

    def list(self, *, part_of_id: str | None = None, page_size: int = 50) -> Iterator[SweepSummary]:
        """Sweeps, the newest first; pages are fetched as they are needed. `part_of_id` is as for jobs."""
        return each(self._calls.list(part_of_id=part_of_id, page_size=page_size))

    def follow(self, sweep_id: UUID | str, *, timeout: float | None = None) -> Iterator[Sweep]:
        """The sweep as it is, and whole again each time that a point stands otherwise, until all are over.

        Raises:
            WaitTimedOut: it is not over after `timeout` seconds.
        """
        return each(self._calls.follow(sweep_id, timeout=timeout))

    def wait(
        self,
        sweep_id: UUID | str,
        *,
        timeout: float | None = None,
        on_progress: Callable[[Sweep], None] | None = None,
    ) -> Sweep:
        """Wait until all points are over; the finished sweep. `on_progress` is told it each time that a point moves.

        Raises:
            WaitTimedOut: it is not over after `timeout` seconds.
        """
        return finish(self._calls.wait(sweep_id, timeout=timeout, on_progress=on_progress))

    def cancel(self, sweep_id: UUID | str) -> Sweep:
        """Ask for all of its jobs to end; what has succeeded stays."""
        return finish(self._calls.cancel(sweep_id))

    def retry(self, sweep_id: UUID | str) -> Sweep:
        """Queue its failed and cancelled points again."""
        return finish(self._calls.retry(sweep_id))

    def delete(self, sweep_id: UUID | str) -> None:
        """Remove a sweep that is over, with its jobs."""
        finish(self._calls.delete(sweep_id))

    def report(self, sweep_id: UUID | str, *, x: str | None = None, y: str | None = None) -> SweepReport:
        """Its report, or what there is of it so far; points are compared by the metrics `x` and `y`."""
        return finish(self._calls.report(sweep_id, x=x, y=y))

    def report_text(
        self, sweep_id: UUID | str, format: str = "md", *, x: str | None = None, y: str | None = None
    ) -> str:
        """The report in one of its forms: `json`, `html`, `md`, `csv`."""
        return finish(self._calls.report_text(sweep_id, format, x=x, y=y))

    def verdict(self, sweep_id: UUID | str) -> SweepVerdict:
        """Whether a point passes all gates, which is recommended, and why."""
        return finish(self._calls.verdict(sweep_id))
