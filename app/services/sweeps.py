"""Sweeps: all of their jobs are made in one transaction, or none is; cancel, retry and delete are those of the jobs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import jobs, stages, sweeps
from app.db.sweeps import SweepPage
from app.db.tables.sweeps import Sweep
from app.http.cursor import decode
from app.services.submit import check, send
from app.services.work import Work
from app.settings import Settings
from secateur.contract.errors import Conflict, FieldError, InvalidInput
from secateur.contract.jobs import State
from secateur.contract.spec import CompressionSpec
from secateur.contract.sweep import Bounds, Point, SweepSpec, unfold
from secateur.contract.sweep_errors import checked_specs, refuse
from secateur.schemas import sweeps as bodies


@dataclass(frozen=True)
class Submitted:
    """The sweep of a submission."""

    id: UUID
    replayed: bool  # an earlier request with the same idempotency key had made it


def submit(
    work: Work,
    asked: SweepSpec,
    *,
    caller: str,
    idempotency_key: str | None = None,
    cancel_after: timedelta | None = None,
) -> Submitted:
    """Make the sweep with its jobs, unless this caller's idempotency key has made it already.

    Raises:
        InvalidInput: no or too many points, equal ones, one whose spec cannot be met, or the key was used with another
            body. It names the place in the body, and where it is not all of them, the point.
        BadCheckpoint, UnsupportedModel: of a local model.
    """
    session = work.session
    digest = _fingerprint(asked) if idempotency_key is not None else None
    if idempotency_key is not None and (earlier := _earlier(session, caller, idempotency_key, digest)):
        return earlier
    points = unfold(asked, _bounds(work.settings))
    specs = checked_specs(points)
    _check_each(work, points, specs)
    sweep_id = sweeps.insert(
        session,
        asked=asked.model_dump(mode="json", exclude_unset=True),
        changes=[point.changes for point in points],
        gates=specs[0].gates.model_dump(mode="json"),
        labels=specs[0].labels,
        model_id=jobs.model_id_of(specs[0]),
        caller=caller,
        request_id=work.origin.request_id,
        idempotency_key=idempotency_key,
        idempotency_fingerprint=digest,
    )
    if sweep_id is None:  # somebody with the same key was faster, and has committed by now
        assert idempotency_key is not None
        found = _earlier(session, caller, idempotency_key, digest)
        assert found is not None
        return found
    deadline_at = datetime.now(UTC) + cancel_after if cancel_after else None
    for point, spec in zip(points, specs, strict=True):
        job = jobs.insert(
            session,
            spec=spec,
            caller=caller,
            deadline_at=deadline_at,
            origin=work.origin,
            sweep=(sweep_id, point.place),
        )
        assert job is not None, "it has no idempotency key"
        send(work, job.stage_ids[0])
    return Submitted(sweep_id, replayed=False)


def _bounds(settings: Settings) -> Bounds:
    points, size = settings.max_sweep_points, settings.max_sweep_bytes
    return Bounds(points, size, "SECATEUR_MAX_SWEEP_POINTS", "SECATEUR_MAX_SWEEP_BYTES")


def _check_each(work: Work, points: list[Point], specs: list[CompressionSpec]) -> None:
    found: dict[int, InvalidInput] = {}
    for point, spec in zip(points, specs, strict=True):
        try:
            check(work, spec)
        except InvalidInput as error:
            found[point.place] = error
    refuse(points, found)


def _fingerprint(asked: SweepSpec) -> str:
    """What two bodies share if they ask for the same."""
    body = asked.model_dump(mode="json", exclude_defaults=True)
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _earlier(session: Session, caller: str, key: str, digest: str | None) -> Submitted | None:
    sweep = sweeps.by_idempotency_key(session, caller=caller, key=key)
    if sweep is None:
        return None
    if sweep.idempotency_fingerprint != digest:
        detail = f"this Idempotency-Key has made sweep {sweep.id} from another body"
        field = FieldError("", detail, key, "a new key for a new body", "header Idempotency-Key")
        raise InvalidInput(detail, errors=[field])
    return Submitted(sweep.id, replayed=True)


def shown(session: Session, sweep_id: UUID) -> bodies.Sweep:
    """The sweep with its points, as they stand. Raises NotFound."""
    sweep = sweeps.get(session, sweep_id)
    points = [
        bodies.SweepPoint.model_validate({**vars(row), "changes": sweep.changes[row.place]})
        for row in sweeps.points(session, sweep_id)
    ]
    summary = _summary(sweep, sweeps.standings(session, [sweep_id])[sweep_id])
    return bodies.Sweep(**vars(summary), asked=sweep.asked, gates=sweep.gates, points=points)


def list_sweeps(
    session: Session, *, cursor: str | None, limit: int, part: str | None = None
) -> tuple[SweepPage, list[bodies.SweepSummary]]:
    """A page of sweeps, newest first; `part` is how their ids begin or end.

    Raises:
        InvalidInput: the cursor is somebody else's.
    """
    page = sweeps.list_page(session, after=decode(cursor) if cursor is not None else None, limit=limit, part=part)
    standings = sweeps.standings(session, [sweep.id for sweep in page.sweeps])
    return page, [_summary(sweep, standings[sweep.id]) for sweep in page.sweeps]


def _summary(sweep: Sweep, standing: sweeps.Standing) -> bodies.SweepSummary:
    return bodies.SweepSummary(
        id=sweep.id,
        state=standing.state,
        verdict=standing.verdict,
        model=sweep.model_id,
        labels=sweep.labels,
        counts={state: standing.states[state] for state in State},
        request_id=sweep.request_id,
        created_at=sweep.created_at,
        finished_at=standing.finished_at,
    )


def cancel(work: Work, sweep_id: UUID) -> None:
    """Ask for all of its jobs to end; asking again, or late, changes nothing. Raises NotFound."""
    sweeps.get(work.session, sweep_id)
    for job_id in sweeps.job_ids(work.session, sweep_id, State.QUEUED, State.RUNNING):
        jobs.request_cancel(work.session, job_id, origin=work.origin)


def retry(work: Work, sweep_id: UUID) -> None:
    """Queue its failed and cancelled jobs again, whatever the others do. Raises NotFound; Conflict if there is none."""
    sweeps.get(work.session, sweep_id)
    again = sweeps.job_ids(work.session, sweep_id, State.FAILED, State.CANCELLED)
    if not again:
        raise Conflict(f"no point of sweep {sweep_id} has failed or was cancelled, so there is none to retry")
    for job_id in again:
        for waiting in stages.waiting_ids(jobs.retry(work.session, job_id, origin=work.origin)):
            send(work, waiting)


def delete(work: Work, sweep_id: UUID) -> None:
    """Delete a sweep that is over, with its jobs. Raises NotFound, Conflict."""
    sweeps.get(work.session, sweep_id)
    open_ids = sweeps.job_ids(work.session, sweep_id, State.QUEUED, State.RUNNING, State.CANCELLING)
    if open_ids:
        raise Conflict(f"{len(open_ids)} points of sweep {sweep_id} are not over; cancel it, and delete it when it is")
    sweeps.delete(work.session, sweep_id)
