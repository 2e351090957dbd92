"""Identical stages of different jobs, which are twins: one computes, and the others take its result over.

Twins have one dedupe key (`workers/supervision/result_keys.py`). A stage whose twin is being computed goes back to the
queue without a turn, and so holds no worker, until that has ended. It is woken by whoever ended it, and else by the
janitor. If there is a result then, all who wait take it; if there is none, the first of them goes on itself, and the
others wait for that one.

That one at a time computes is the promise of an index (`uq_stages_computing`); the advisory lock on the key keeps two
that come in the same instant from running into it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, aliased

from app.db import artifacts, claims, jobs, stage_ends
from app.db.claims import Claim
from app.db.stage_ends import HELD, Ended
from app.db.tables.jobs import Job, Stage
from app.stored_file import StoredFile
from secateur.contract.jobs import State
from secateur.contract.protocol import NewStage


@dataclass(frozen=True)
class SharedResult:
    """What a stage of another job has left, under the same dedupe key."""

    job_id: UUID
    result: dict[str, Any]
    output: str
    files: list[StoredFile]
    adds: list[NewStage]


def meet(session: Session, claim: Claim, dedupe_key: str, *, note: Callable[[SharedResult], str]) -> Ended:
    """Before a claimed stage is computed: end it with a twin's result, or let it wait for a twin that runs.

    If it is still running after that, it is to be computed, and is who its twins wait for.

    Args:
        note: a line for the job's log where a result was taken over.
    """
    return claims.hold(session, claim, lambda job, stage: _meet(session, job, stage, dedupe_key, note))


def _meet(session: Session, job: Job, stage: Stage, dedupe_key: str, note: Callable[[SharedResult], str]) -> Ended:
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(dedupe_key, 0))))
    shared = find(session, dedupe_key)
    if shared is not None:
        return stage_ends.succeed(
            session, job, stage, shared.result, shared.output, shared.files, shared.adds, dedupe_key, note(shared)
        )
    computing = (Stage.dedupe_key == dedupe_key, Stage.state.in_(HELD), Stage.id != stage.id)
    twin = session.scalars(select(Stage).where(*computing)).one_or_none()
    if twin is not None:
        return stage_ends.wait_for(session, job, stage, twin)
    stage.dedupe_key = dedupe_key
    session.flush()
    return Ended(State.RUNNING)


def wake(session: Session) -> list[UUID]:
    """Give those their turn whose twin computes no longer; send them after commit.

    It locks no job, and passes over stages that somebody else is just changing: the janitor looks again.
    """
    other = aliased(Stage)
    same = other.dedupe_key == Stage.dedupe_key
    computing = select(other.id).where(same, other.state.in_(HELD)).exists()
    done = select(other.id).where(same, other.state == State.SUCCEEDED).exists()
    before = (other.waits_for.is_(None)) | (other.id < Stage.id)  # woken already, or waiting for longer
    another = select(other.id).where(same, other.state == State.QUEUED, other.id != Stage.id, before).exists()
    waiting = (Stage.state == State.QUEUED, Stage.dedupe_key.is_not(None), Stage.waits_for.is_not(None))
    free_query = select(Stage.id).where(*waiting, ~computing, done | ~another).with_for_update(skip_locked=True)
    woken = (
        update(Stage).where(Stage.id.in_(free_query)).values(waits_for=None, enqueued_at=func.now()).returning(Stage.id)
    )
    return list(session.scalars(woken.execution_options(synchronize_session=False)))


def find(session: Session, dedupe_key: str) -> SharedResult | None:
    """The newest result under this key. Its job cannot be deleted until the transaction ends."""
    query = (
        select(Stage)
        .where(Stage.dedupe_key == dedupe_key, Stage.state == State.SUCCEEDED)
        .order_by(Stage.finished_at.desc())
        .limit(1)
        .with_for_update(read=True, key_share=True)
    )
    stage = session.scalars(query).one_or_none()
    if stage is None or stage.result is None or stage.output is None:
        return None
    files = artifacts.files_of_stage(session, stage.job_id, stage.key)
    return SharedResult(stage.job_id, stage.result, stage.output, files, _added(session, stage))


def _added(session: Session, by: Stage) -> list[NewStage]:
    """What this stage has added to its job, as it named it."""
    stages = jobs.get(session, by.job_id).stages
    new = [stage for stage in stages if stage.added_by == by.key]
    return [
        NewStage(
            key=stage.key,
            kind=stage.kind,
            needs=tuple(stage.needs),
            before=tuple(other.key for other in stages if stage.key in other.needs and other.added_by != by.key),
        )
        for stage in new
    ]
