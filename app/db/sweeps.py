"""Sweeps: made, found, and how their jobs stand. What happens to a job happens in `jobs`, be it of a sweep or not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Text, bindparam, cast, func, or_, select, text
from sqlalchemy import delete as sql_delete
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import Session

from app.db.arrays import among
from app.db.tables.job_records import Report
from app.db.tables.jobs import Job
from app.db.tables.sweeps import Sweep
from secateur.contract.errors import NotFound
from secateur.contract.jobs import State, Verdict
from secateur.contract.sweep import state_of, verdict_of


@dataclass(frozen=True)
class SweepPage:
    sweeps: list[Sweep]  # newest first
    has_more: bool


@dataclass(frozen=True)
class Standing:
    """How the jobs of a sweep stand, counted."""

    states: Counter[State] = field(default_factory=Counter)
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    ended_at: datetime | None = None  # the last end of a job

    def and_these(self, state: State, verdict: Verdict, count: int, ended_at: datetime | None) -> Standing:
        """With more jobs, which stand alike."""
        ends = [end for end in (self.ended_at, ended_at) if end is not None]
        return Standing(
            self.states + Counter({state: count}),
            self.verdicts + Counter({verdict: count}),
            max(ends) if ends else None,
        )

    @property
    def state(self) -> State:
        return state_of(self.states)

    @property
    def verdict(self) -> Verdict:
        return verdict_of(self.state, self.verdicts)

    @property
    def finished_at(self) -> datetime | None:
        return self.ended_at if self.state.terminal else None


@dataclass(frozen=True)
class PointRow:
    """The job of a point, as it stands."""

    place: int
    job_id: UUID
    state: State
    verdict: Verdict
    problem: dict[str, Any] | None
    started_at: datetime | None
    finished_at: datetime | None
    stages: int
    stages_done: int
    running: list[str]  # keys of stages


_POINTS = text(
    """
    SELECT job.sweep_place, job.id, job.state, job.verdict, job.problem, job.started_at, job.finished_at,
           of.stages, of.done, coalesce(of.running, '{}')
    FROM jobs AS job CROSS JOIN LATERAL (
        SELECT count(*) AS stages, count(*) FILTER (WHERE state = 'succeeded') AS done,
               array_agg(key ORDER BY place) FILTER (WHERE state IN ('running', 'cancelling')) AS running
        FROM stages WHERE job_id = job.id
    ) AS of
    WHERE job.sweep_id = :id ORDER BY job.sweep_place
    """
).bindparams(bindparam("id", type_=Sweep.id.type))


_DONE = text(
    """
    SELECT of.kind, split_part(of.output, '/', 2) <> of.id::text, of.result ->> 'seconds'
    FROM jobs AS job JOIN stages AS of ON of.job_id = job.id
    WHERE job.sweep_id = :id AND of.state = 'succeeded' ORDER BY of.place, job.sweep_place
    """
).bindparams(bindparam("id", type_=Sweep.id.type))


def insert(
    session: Session,
    *,
    asked: dict[str, Any],
    changes: list[dict[str, Any]],
    gates: dict[str, Any],
    labels: dict[str, str],
    model_id: str,
    caller: str,
    request_id: str | None = None,
    idempotency_key: str | None = None,
    idempotency_fingerprint: str | None = None,
) -> UUID | None:
    """A new sweep, still without jobs; None if this caller has used the idempotency key before.

    Where another transaction is just using it, this one waits for the other to end.
    """
    values = {name: value for name, value in locals().items() if name != "session"}
    made = pg_insert(Sweep).values(values).on_conflict_do_nothing(index_elements=[Sweep.caller, Sweep.idempotency_key])
    return session.execute(made.returning(Sweep.id)).scalar_one_or_none()


def get(session: Session, sweep_id: UUID) -> Sweep:
    """One sweep. Raises NotFound."""
    found = session.get(Sweep, sweep_id)
    if found is None:
        raise NotFound(f"there is no sweep {sweep_id}")
    return found


def by_idempotency_key(session: Session, *, caller: str, key: str) -> Sweep | None:
    """The sweep that this caller made with this key."""
    return session.scalars(select(Sweep).where(Sweep.caller == caller, Sweep.idempotency_key == key)).one_or_none()


def list_page(session: Session, *, after: UUID | None = None, limit: int = 20, part: str | None = None) -> SweepPage:
    """Sweeps, newest first, from behind the sweep `after` on: a keyset page, as of jobs.

    `part` is how an id begins or ends, as hexadecimal digits; dashes do not count. Sweeps are few: all are looked at.
    """
    query = select(Sweep).order_by(Sweep.id.desc()).limit(limit + 1)
    if after is not None:
        query = query.where(Sweep.id < after)
    if part is not None:
        digits, asked = func.replace(cast(Sweep.id, Text), "-", ""), part.replace("-", "").lower()
        query = query.where(or_(digits.startswith(asked), digits.endswith(asked)))
    found = list(session.scalars(query))
    return SweepPage(found[:limit], len(found) > limit)


def standings(session: Session, ids: Collection[UUID]) -> dict[UUID, Standing]:
    """How the jobs of each of these sweeps stand."""
    counted = (
        select(Job.sweep_id, Job.state, Job.verdict, func.count(), func.max(Job.finished_at))
        .where(among(Job.sweep_id, ids), Job.sweep_id.is_not(None))
        .group_by(Job.sweep_id, Job.state, Job.verdict)
    )
    found = {sweep_id: Standing() for sweep_id in ids}
    for sweep_id, state, verdict, count, ended_at in session.execute(counted):
        assert sweep_id is not None, "others are left out"
        found[sweep_id] = found[sweep_id].and_these(state, verdict, count, ended_at)
    return found


def points(session: Session, sweep_id: UUID) -> list[PointRow]:
    """The job of each point, in the order of their places."""
    return [
        PointRow(place, job_id, State(state), Verdict(verdict), problem, started, finished, stages, done, list(running))
        for place, job_id, state, verdict, problem, started, finished, stages, done, running in session.execute(
            _POINTS, {"id": sweep_id}
        )
    ]


def reports(session: Session, sweep_id: UUID) -> dict[UUID, dict[str, Any]]:
    """The report of each job that has one, by the job's id."""
    query = select(Report.job_id, Report.body).join(Job, Job.id == Report.job_id).where(Job.sweep_id == sweep_id)
    return {row.job_id: row.body for row in session.execute(query)}


@dataclass(frozen=True)
class DoneStage:
    """A stage that has succeeded."""

    kind: str
    taken_over: bool  # from a stage of another job
    seconds: float  # that it took where it was computed


def done_stages(session: Session, sweep_id: UUID) -> list[DoneStage]:
    """Those of all its jobs, in the order in which people read them."""
    return [
        DoneStage(kind, taken_over, float(seconds or 0))
        for kind, taken_over, seconds in session.execute(_DONE, {"id": sweep_id})
    ]


def job_ids(session: Session, sweep_id: UUID, *states: State) -> list[UUID]:
    """Its jobs in one of these states, in the order of their ids: that in which they are locked."""
    query = select(Job.id).where(Job.sweep_id == sweep_id, among(Job.state, states)).order_by(Job.id)
    return list(session.scalars(query))


def delete(session: Session, sweep_id: UUID) -> None:
    """Delete a sweep that is over with its jobs; see `jobs.delete` for their files."""
    session.execute(sql_delete(Sweep).where(Sweep.id == sweep_id))
