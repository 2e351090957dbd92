"""What a worker does with a stage: take it, keep it, tell of it, and end it, each in one short transaction.

A worker takes the stage whose turn it is, whatever woke it up. A claim is one conditional UPDATE that counts the
stage's fencing token up; every later write carries the token and is refused where the row has another, or where the job
was deleted. So whatever a worker does that was stopped, cut off or believed dead, the stage is ended once:
`Ended.state` is None for a worker that came too late.

A connection that is lost during COMMIT leaves open whether it was done. All functions here may therefore be called
again with the same claim: what is committed already is found, and not done twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.db import events, jobs, stage_ends
from app.db.origin import UNKNOWN, Origin
from app.db.stage_ends import HELD, LOST, Ended
from app.db.stages import next_waiting, waiting_ids
from app.db.tables.jobs import Job, Stage
from app.db.transitions import move_job
from app.stored_file import StoredFile
from secateur.contract.errors import NotFound
from secateur.contract.jobs import State
from secateur.contract.protocol import NewStage
from secateur.contract.use import StageUse


@dataclass(frozen=True)
class Claim:
    """A stage in the hands of a worker."""

    stage_id: UUID
    job_id: UUID
    key: str
    kind: str
    attempt: int
    token: int
    origin: Origin = UNKNOWN  # of the job


class Standing(Enum):
    """How it is with a claim."""

    HELD = "held"
    CANCELLING = "cancelling"  # held, and the process is to be stopped
    LOST = "lost"  # another token, or no row: stop, and write nothing


def claim_next(session: Session, *, worker: str, lease_seconds: float) -> Claim | None:
    """Take the stage whose turn it is (`stages.next_waiting`); None if no stage waits. `worker` as for `claim`."""
    mine = select(Stage.id).where(Stage.worker == worker, Stage.lease_expires_at.is_not(None))
    stage_id = session.scalar(mine) or next_waiting(session)
    while stage_id is not None:
        taken = claim(session, stage_id, worker=worker, lease_seconds=lease_seconds)
        if taken is not None:
            return taken
        stage_id = next_waiting(session)  # what stood there was claimed or cancelled while its job's row was waited for
    return None


def claim(session: Session, stage_id: UUID, *, worker: str, lease_seconds: float) -> Claim | None:
    """Take the stage if it waits for a worker; None if it does not (taken, over, cancelled, overdue or deleted).

    Args:
        worker: says who it is, and is another one for every attempt to claim: it is how a claim whose commit was cut
            finds its own again.
    """
    job_id = session.scalar(select(Stage.job_id).where(Stage.id == stage_id))
    if job_id is None:
        return None
    try:
        job = jobs.lock(session, job_id)
    except NotFound:
        return None
    stage = next(s for s in job.stages if s.id == stage_id)
    origin = Origin(job.request_id, job.traceparent)
    if stage.state in HELD and stage.worker == worker:
        return Claim(stage_id, job_id, stage.key, stage.kind, stage.attempt, stage.token, origin)
    taken = (
        update(Stage)
        .where(
            Stage.id == stage_id,
            Stage.state == State.QUEUED,
            Stage.enqueued_at.is_not(None),
            select(Job.id)
            .where(
                Job.id == job_id,
                Job.state.in_([State.QUEUED, State.RUNNING]),
                (Job.deadline_at.is_(None)) | (Job.deadline_at > func.now()),
            )
            .exists(),
        )
        .values(
            state=State.RUNNING,
            token=Stage.token + 1,
            attempt=Stage.attempt + 1,
            worker=worker,
            lease_expires_at=func.now() + timedelta(seconds=lease_seconds),
            heartbeat_at=func.now(),
            started_at=func.now(),
            finished_at=None,
            dedupe_key=None,
            waits_for=None,
            progress=None,
            use=None,
            relayed=0,
        )
        .returning(Stage.key, Stage.kind, Stage.attempt, Stage.token)
        .execution_options(synchronize_session=False)
    )
    row = session.execute(taken).one_or_none()
    if row is None:
        return None
    told = [events.stage_state(row.key, row.attempt, State.RUNNING)]
    if job.state is State.QUEUED:
        told.insert(0, move_job(job, State.RUNNING))
        session.flush()
    events.append(session, job_id, told)
    return Claim(stage_id, job_id, row.key, row.kind, row.attempt, row.token, origin)


def look(session: Session, claim: Claim) -> tuple[Standing, bool]:
    """How it is with the claim, and whether the job's deadline has passed; locks nothing."""
    overdue = func.coalesce(Job.deadline_at <= func.now(), False)
    query = select(Stage.state, overdue).join(Job, Job.id == Stage.job_id).where(*_ours(claim))
    row = session.execute(query).one_or_none()
    return (Standing.LOST, False) if row is None else (_standing(row[0]), row[1])


def renew(session: Session, claim: Claim, *, lease_seconds: float, use: StageUse | None = None) -> Standing:
    """Prolong the lease: it runs `lease_seconds` from now, by the clock of the database. `use` as for `add_events`."""
    prolonged = (
        update(Stage)
        .where(*_ours(claim))
        .values(lease_expires_at=func.now() + timedelta(seconds=lease_seconds), heartbeat_at=func.now(), **_used(use))
        .returning(Stage.state)
        .execution_options(synchronize_session=False)
    )
    return _standing(session.execute(prolonged).scalar_one_or_none())


def add_events(
    session: Session,
    claim: Claim,
    batch: Sequence[events.NewEvent],
    *,
    before: int,
    progress: dict[str, Any] | None = None,
    use: StageUse | None = None,
) -> Standing:
    """Write events of the stage's process.

    Args:
        before: how many of this attempt were relayed before the batch.
        progress: of the stage, as it is known last.
        use: what it uses of its machine now, where that is known.
    """
    if session.scalar(select(Job.id).where(Job.id == claim.job_id).with_for_update()) is None:
        return Standing.LOST
    row = session.execute(select(Stage.state, Stage.relayed).where(*_ours(claim))).one_or_none()
    if row is None:
        return Standing.LOST
    fresh = batch[max(0, row.relayed - before) :]  # the rest was committed by a call whose answer was lost
    if fresh:
        values: dict[str, Any] = {"relayed": before + len(batch), **_used(use)}
        if progress is not None:
            values["progress"] = progress
        session.execute(update(Stage).where(*_ours(claim)).values(values).execution_options(synchronize_session=False))
        events.append(session, claim.job_id, fresh)
    return _standing(row.state)


def succeed(
    session: Session,
    claim: Claim,
    *,
    result: dict[str, Any],
    output: str,
    files: Sequence[StoredFile],
    adds: Sequence[NewStage] = (),
    dedupe_key: str | None = None,
    note: str | None = None,
    memory: int | None = None,
) -> Ended:
    """Commit the stage's result, its artifacts, its state, what it adds and whose turn it is then, all or nothing.

    Args:
        output: the folder of the files in the store.
        adds: stages that the job gets.
        note: a line for the job's log.
        memory: bytes that the stage's processes used at most.

    Raises:
        StageFailed: stages cannot be added as they are named.
    """
    return hold(
        session,
        claim,
        lambda job, stage: stage_ends.succeed(
            session, job, stage, result, output, files, adds, dedupe_key, note, memory
        ),
    )


def fail(session: Session, claim: Claim, *, problem: dict[str, Any]) -> Ended:
    """End the stage with this problem, since trying again by itself would not help; what does not need it runs on."""
    return hold(session, claim, lambda job, stage: stage_ends.fail(session, job, stage, problem))


def crash(session: Session, claim: Claim, *, problem: dict[str, Any], max_attempts: int) -> Ended:
    """The process broke without saying why: back to the queue, or failed if this was the last attempt allowed."""
    return hold(session, claim, lambda job, stage: stage_ends.crash(session, job, stage, problem, max_attempts))


def release(session: Session, claim: Claim, *, reason: str) -> Ended:
    """Give the stage back to the queue through no fault of its own, such as the worker's shutdown."""
    return hold(session, claim, lambda job, stage: stage_ends.requeue(session, job, stage, reason))


def cancelled(session: Session, claim: Claim) -> Ended:
    """The process is gone, as a cancel asked."""
    return hold(session, claim, lambda job, stage: LOST)  # nobody asked for it: nothing is to be done


def rescue(session: Session, stage_id: UUID, *, problem: dict[str, Any], max_attempts: int) -> Ended:
    """Take a stage whose lease has run out from its worker, which is fenced out from then on."""
    job_id = session.scalar(select(Stage.job_id).where(Stage.id == stage_id))
    if job_id is None:
        return LOST
    try:
        job = jobs.lock(session, job_id)
    except NotFound:
        return LOST
    stage = next(s for s in job.stages if s.id == stage_id)
    now = session.execute(select(func.now())).scalar_one()
    if stage.lease_expires_at is None or stage.lease_expires_at > now:
        return LOST  # renewed or ended since it was looked for
    stage.token += 1
    if stage.state is State.CANCELLING:
        return stage_ends.cancel(session, job, stage)
    return stage_ends.crash(session, job, stage, problem, max_attempts)


def _used(use: StageUse | None) -> dict[str, Any]:
    """The column to write, where anything is known: else it stays as it is."""
    return {} if use is None else {"use": use.model_dump()}


def _ours(claim: Claim) -> tuple[Any, ...]:
    return (Stage.id == claim.stage_id, Stage.token == claim.token, Stage.state.in_(HELD))


def _standing(state: State | None) -> Standing:
    if state is None:
        return Standing.LOST
    return Standing.CANCELLING if state is State.CANCELLING else Standing.HELD


def hold(session: Session, claim: Claim, how: Callable[[Job, Stage], Ended]) -> Ended:
    """End the claim's stage, with the job's row locked: LOST if the token is an old one or the job is gone.

    A cancel that was asked for wins over `how` the stage ended. And if the stage has an end already, it is this claim's
    own, reached by an earlier call whose answer was lost: only claims and rescues count the token up.
    """
    try:
        job = jobs.lock(session, claim.job_id)
    except NotFound:
        return LOST
    stage = next(s for s in job.stages if s.id == claim.stage_id)
    if stage.token != claim.token:
        return LOST
    if stage.state is State.CANCELLING:
        return stage_ends.cancel(session, job, stage)
    if stage.state is not State.RUNNING:
        return Ended(stage.state, waiting_ids(job))
    return how(job, stage)
