"""Jobs: made, found, cancelled, retried, deleted."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import bindparam, func, select, text
from sqlalchemy import delete as sql_delete
from sqlalchemy.orm import Session

from app.db import events
from app.db.base import new_id
from app.db.job_json import job_json
from app.db.origin import UNKNOWN, Origin
from app.db.queue_place import QUEUE
from app.db.session import Database
from app.db.tables.jobs import Job, job_counts
from app.db.transitions import give_turns, move_job, move_stage
from secateur.contract.errors import Conflict, NotFound
from secateur.contract.jobs import State, Verdict
from secateur.contract.questions import Question
from secateur.contract.spec import CompressionSpec, HubModel
from secateur.contract.stage_graph import PlannedStage, planned
from secateur.contract.stage_kinds import ANSWER

HIGHEST = 9  # priority
ANSWERING = (PlannedStage(ANSWER.name, ANSWER.name, ()),)  # the stages of a job that answers a question


@dataclass(frozen=True)
class NewJob:
    """A job that was just written."""

    id: UUID
    stage_ids: tuple[UUID, ...]  # the first one waits for a worker
    text: str  # see `app.db.job_json`


# One statement, and so one trip to the server: the stages and the first event follow the job's row, and where that is
# not made, because the idempotency key is there already, none of them is. Nobody can follow a job that is not there, so
# nobody is told.
# It is given to the driver as it is, with what differs from job to job alone, as texts: to compile it and to convert
# values takes longer than a transaction of its own would.
_TOLD = events.job_state(State.QUEUED)
_INSERT = f"""
WITH job AS (
    INSERT INTO jobs (id, spec, model_id, state, verdict, labels, priority, sweep_id, sweep_place, asked_of, question,
                      caller, request_id, traceparent, idempotency_key, idempotency_fingerprint, deadline_at,
                      last_event_seq)
    VALUES (%(id)s::uuid, %(spec)s::jsonb, %(model_id)s, '{State.QUEUED}', '{Verdict.NONE}',
            %(spec)s::jsonb -> 'labels', %(priority)s::int, %(sweep_id)s::uuid, %(sweep_place)s::int,
            %(asked_of)s::uuid, %(question)s::jsonb, %(caller)s, %(request_id)s::text, %(traceparent)s::text,
            %(idempotency_key)s::text, %(idempotency_fingerprint)s::text, %(deadline_at)s::timestamptz, 1)
    ON CONFLICT (caller, idempotency_key) DO NOTHING
    RETURNING *
), stage AS (
    INSERT INTO stages (id, job_id, key, kind, needs, place, state, attempt, crashes, token, relayed, enqueued_at)
    SELECT given.id, job.id, given.key, given.kind, given.needs, given.place, '{State.QUEUED}', 0, 0, 0, 0,
           CASE WHEN given.needs = '{{}}' THEN now() END
    FROM job, jsonb_to_recordset(%(stages)s::jsonb) AS given (id uuid, key text, kind text, needs text[], place int)
    RETURNING *
), event AS (
    INSERT INTO events (job_id, seq, type, level, request_id, data)
    SELECT id, 1, '{_TOLD.type}', '{_TOLD.level}', request_id, '{json.dumps(_TOLD.data)}' FROM job
)
SELECT {job_json(stages="stage", spec=True)} FROM job
"""
_AS_JSON = text(
    f"SELECT {job_json(spec=True, queue='place.place')}, place.place IS NOT NULL "
    f"FROM jobs AS job, LATERAL (SELECT {QUEUE} AS place) AS place WHERE job.id = :id"
).bindparams(bindparam("id", type_=Job.id.type))
_FOLD = text(
    """
    WITH old AS (DELETE FROM job_counts RETURNING state, change)
    INSERT INTO job_counts (state, change)
    SELECT state, sum(change) FROM old GROUP BY state HAVING sum(change) <> 0
    """
)
# As it was when it was made: a request that is sent again gets the first answer, to the letter.
_STAGES_AS_MADE = """
    (SELECT job_id, key, kind, place, NULL AS added_by, NULL::uuid AS waits_for, 'queued' AS state,
            ARRAY(
                SELECT need FROM unnest(made.needs) WITH ORDINALITY AS given (need, number)
                WHERE need NOT IN (SELECT key FROM stages WHERE job_id = made.job_id AND added_by IS NOT NULL)
                ORDER BY number
            ) AS needs, 0 AS attempt, NULL::jsonb AS progress, NULL::bigint AS memory,
            NULL::jsonb AS use,
            NULL::timestamptz AS started_at, NULL::timestamptz AS finished_at, NULL::jsonb AS problem
     FROM stages AS made WHERE added_by IS NULL)
"""
_BY_KEY = text(
    f"""
    SELECT job.id, job.idempotency_fingerprint, {job_json(stages=_STAGES_AS_MADE, spec=True)}
    FROM (
        SELECT id, idempotency_fingerprint, model_id, labels, sweep_id, asked_of, spec, request_id, deadline_at,
               created_at, created_at AS updated_at,
               'queued' AS state, 'none' AS verdict, 1 AS last_event_seq, NULL::jsonb AS problem,
               NULL::timestamptz AS started_at, NULL::timestamptz AS finished_at,
               NULL::timestamptz AS cancel_requested_at
        FROM jobs WHERE caller = :caller AND idempotency_key = :key
    ) AS job
    """
)


def insert(
    database: Database,
    *,
    spec: CompressionSpec,
    caller: str,
    idempotency_key: str | None = None,
    idempotency_fingerprint: str | None = None,
    deadline_at: datetime | None = None,
    origin: Origin = UNKNOWN,
    sweep: tuple[UUID, int] | None = None,
    asked: tuple[UUID, Question] | None = None,
) -> NewJob | None:
    """A new job with its stages, the first one's turn marked: send it after commit.

    Args:
        sweep: the one that the job is a point of, and its place there.
        asked: the job whose models are asked, and what, where this one is there for their answers alone. It goes
            before all others, since it is short and somebody waits.

    None if this caller has used the idempotency key before; the job is `by_idempotency_key` then. Where another
    transaction is just using it, this one waits for the other to end.
    """
    job_id, plan = new_id(), planned(spec) if asked is None else ANSWERING
    stage_ids = tuple(new_id() for _ in plan)
    rows = [
        {"id": str(stage_id), "place": place, **asdict(stage)}
        for place, (stage_id, stage) in enumerate(zip(stage_ids, plan, strict=True))
    ]
    connection = database.connection() if isinstance(database, Session) else database
    row = connection.exec_driver_sql(
        _INSERT,
        {
            "id": job_id,
            "spec": spec.model_dump_json(),
            "model_id": model_id_of(spec),
            "priority": spec.priority if asked is None else HIGHEST,
            "sweep_id": sweep and sweep[0],
            "sweep_place": sweep and sweep[1],
            "asked_of": asked and asked[0],
            "question": asked and asked[1].model_dump_json(),
            "caller": caller,
            "request_id": origin.request_id,
            "traceparent": origin.traceparent,
            "idempotency_key": idempotency_key,
            "idempotency_fingerprint": idempotency_fingerprint,
            "deadline_at": deadline_at,
            "stages": json.dumps(rows),
        },
    ).one_or_none()
    return None if row is None else NewJob(job_id, stage_ids, row[0])


def model_id_of(spec: CompressionSpec) -> str:
    """The model's hub id or path."""
    return spec.model.id if isinstance(spec.model, HubModel) else spec.model.path


def as_json(database: Database, job_id: UUID) -> tuple[str, bool]:
    """The job as `app.db.job_json` writes it, with its spec, and whether it stands in the queue. Raises NotFound."""
    row = database.execute(_AS_JSON, {"id": job_id}).one_or_none()
    if row is None:
        raise NotFound(f"there is no job {job_id}")
    return row[0], row[1]


def get(session: Session, job_id: UUID) -> Job:
    """The job with its stages. Raises NotFound."""
    return _found(session.get(Job, job_id, populate_existing=True), job_id)


def lock(session: Session, job_id: UUID) -> Job:
    """As `get`, holding the row until the transaction ends: what every change of state begins with."""
    query = select(Job).where(Job.id == job_id).with_for_update().execution_options(populate_existing=True)
    return _found(session.scalars(query).one_or_none(), job_id)


def _found(job: Job | None, job_id: UUID) -> Job:
    if job is None:
        raise NotFound(f"there is no job {job_id}")
    return job


@dataclass(frozen=True)
class EarlierJob:
    """The job that an idempotency key has made, as it was then."""

    id: UUID
    fingerprint: str
    text: str  # see `app.db.job_json`


def by_idempotency_key(database: Database, *, caller: str, key: str) -> EarlierJob | None:
    """The job that this caller made with this key."""
    row = database.execute(_BY_KEY, {"caller": caller, "key": key}).one_or_none()
    return None if row is None else EarlierJob(*row)


def count_by_state(session: Session) -> dict[State, int]:
    """How many jobs stand in each state, those of none included; however many jobs there are, it takes no longer."""
    summed = func.sum(job_counts.c.change)
    counted = session.execute(select(job_counts.c.state, summed).group_by(job_counts.c.state))
    return dict.fromkeys(State, 0) | {State(state): int(count) for state, count in counted}


def fold_counts(session: Session, *, most: int = 1000) -> None:
    """Sum the changes of the counts up, if there are more than `most`. Others may read, add and fold meanwhile."""
    if session.scalar(select(func.count()).select_from(job_counts)) > most:  # type: ignore[operator]
        session.execute(_FOLD)


def request_cancel(session: Session, job_id: UUID, *, reason: str | None = None, origin: Origin = UNKNOWN) -> Job:
    """Ask for the job to end. What no worker holds is cancelled at once; a running stage, when its process is gone.

    Asking again changes nothing, nor does asking for a job that is over. Raises NotFound.
    """
    job = lock(session, job_id)
    if job.state.terminal or job.state is State.CANCELLING:
        return job
    told = [events.log(reason, level="warning")] if reason else []
    job.cancel_requested_at = func.now()
    held = False
    for stage in job.stages:
        if stage.state is State.RUNNING:
            told.append(move_stage(stage, State.CANCELLING))
            held = True
        elif stage.state is State.QUEUED:
            told.append(move_stage(stage, State.CANCELLED))
    if job.state is State.RUNNING:
        told.append(move_job(job, State.CANCELLING))
    if not held:
        told.append(move_job(job, State.CANCELLED))
    session.flush()
    events.append(session, job_id, told, request_id=origin.request_id)
    return get(session, job_id)


def cancel_if_overdue(session: Session, job_id: UUID) -> None:
    """Cancel the job if its deadline has passed; nothing happens if the job is gone, over, or has no deadline now."""
    try:
        job = lock(session, job_id)
    except NotFound:
        return
    now = session.execute(select(func.now())).scalar_one()
    if job.deadline_at is not None and job.deadline_at <= now:
        request_cancel(session, job_id, reason="The job's deadline has passed.")


def retry(session: Session, job_id: UUID, *, origin: Origin = UNKNOWN) -> Job:
    """Queue a failed or cancelled job again, with all stages that have not succeeded.

    What succeeded is kept, and a stage goes on from its last checkpoint where its scratch is still there. A
    deadline does not carry over. Send `stages.waiting_ids(job)` after commit. Raises NotFound; Conflict for a job in
    any other state.
    """
    job = lock(session, job_id)
    if job.state not in {State.FAILED, State.CANCELLED}:
        raise Conflict(f"job {job_id} is {job.state.value}; only a failed or cancelled job can be retried")
    job.cancel_requested_at = job.deadline_at = None
    job.traceparent = origin.traceparent
    told = [move_job(job, State.QUEUED)]
    for stage in job.stages:
        if stage.state is not State.SUCCEEDED:
            stage.crashes = 0
            told.append(move_stage(stage, State.QUEUED))
    give_turns(job)
    session.flush()
    events.append(session, job_id, told, request_id=origin.request_id)
    return get(session, job_id)


def delete(session: Session, job_id: UUID) -> None:
    """Delete a job that is over, with its history; the janitor sweeps its files unless another job shares them.

    Raises NotFound; Conflict while the job is not over, or if it is a point of a sweep.
    """
    job = lock(session, job_id)
    if job.sweep_id is not None:
        raise Conflict(f"job {job_id} is point {job.sweep_place} of sweep {job.sweep_id}; delete that as a whole")
    if not job.state.terminal:
        raise Conflict(f"job {job_id} is {job.state.value}; cancel it, and delete it when it is over")
    session.execute(sql_delete(Job).where(Job.id == job_id))
    session.expunge(job)


def overdue(session: Session, *, limit: int = 100) -> list[UUID]:
    """Jobs that their deadline has passed and that nobody has cancelled yet."""
    query = select(Job.id).where(Job.deadline_at <= func.now(), Job.state.in_([State.QUEUED, State.RUNNING]))
    return list(session.scalars(query.order_by(Job.deadline_at).limit(limit)))
