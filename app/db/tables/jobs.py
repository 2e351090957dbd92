"""Jobs and their stages.

Postgres is the truth about them; messages on the broker only wake workers up. Three rules hold everywhere:

- Whoever changes a job or its stages locks the job's row first (`jobs.lock`), then the stages', so nobody deadlocks.
  Renewing a lease touches the stage's row alone.
- The number of an event is taken from `jobs.last_event_seq` in the transaction that writes it, so that the sequence
  of a job has no gap and is never seen out of order.
- A worker's writes carry the fencing token that its claim gave it; a row with another token refuses them.

States are explained in `secateur/contract/jobs.py`, and in the comments that the database keeps of each column.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.db.base import Base, new_id, words
from app.db.tables.sweeps import Sweep
from secateur.contract.jobs import State, Verdict

ID_FROM_ITS_END = "reverse(replace(id::text, '-', ''))"  # people name jobs by how their ids end


class Job(Base):
    """One compression job."""

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("caller", "idempotency_key"),
        CheckConstraint("(idempotency_key IS NULL) = (idempotency_fingerprint IS NULL)", name="idempotency"),
        CheckConstraint(
            "(finished_at IS NOT NULL) = (state IN ('succeeded', 'failed', 'cancelled'))", name="finished_when_terminal"
        ),
        CheckConstraint("state <> 'failed' OR problem IS NOT NULL", name="failed_says_why"),
        CheckConstraint("last_event_seq >= 0", name="last_event_seq"),
        CheckConstraint("(sweep_id IS NULL) = (sweep_place IS NULL)", name="place_in_sweep"),
        CheckConstraint("(asked_of IS NULL) = (question IS NULL)", name="question"),
        Index(  # the questions that a job was asked
            "ix_jobs_asked_of", "asked_of", text("id DESC"), postgresql_where=text("asked_of IS NOT NULL")
        ),
        Index(  # the jobs of a sweep
            "uq_jobs_sweep_id_sweep_place",
            "sweep_id",
            "sweep_place",
            unique=True,
            postgresql_where=text("sweep_id IS NOT NULL"),
        ),
        Index("ix_jobs_state_id", "state", text("id DESC")),
        Index("ix_jobs_verdict_id", "verdict", text("id DESC")),
        Index("ix_jobs_model_id_id", "model_id", text("id DESC")),
        Index("ix_jobs_labels", "labels", postgresql_using="gin", postgresql_ops={"labels": "jsonb_path_ops"}),
        Index(
            "ix_jobs_deadline_at",
            "deadline_at",
            postgresql_where=text("deadline_at IS NOT NULL AND state IN ('queued', 'running')"),
        ),
        Index("ix_jobs_id_from_its_end", text(ID_FROM_ITS_END)),
        Index(  # whose first stage a free worker takes: of the highest priority, by caller
            "ix_jobs_turn", text("priority DESC"), "caller", "id", postgresql_where=text("state = 'queued'")
        ),
        Index("ix_jobs_caller_started_at", "caller", "started_at", postgresql_where=text("started_at IS NOT NULL")),
        CheckConstraint("priority BETWEEN -9 AND 9", name="priority"),
        Index("ix_jobs_unfinished", "id", postgresql_where=text("state IN ('queued', 'running', 'cancelling')")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    spec: Mapped[dict[str, Any]] = mapped_column(comment="The CompressionSpec with its defaults filled in.")
    model_id: Mapped[str] = mapped_column(comment="Hub id or path of the model, as the spec names it; for filters.")
    state: Mapped[State] = mapped_column(
        words(State, "state"),
        default=State.QUEUED,
        comment=(
            "queued: no worker holds a stage, and none has since the last claim ended without success. "
            "running: a worker holds a stage, or one has ended and others wait for a worker. "
            "cancelling: a cancel was asked for and a worker is stopping the process. "
            "succeeded: every stage is committed; terminal. "
            "failed: all is over, and a stage has failed; the problem stands beside; terminal until retried. "
            "cancelled: stopped on request or by its deadline; terminal until retried."
        ),
    )
    verdict: Mapped[Verdict] = mapped_column(
        words(Verdict, "verdict"),
        default=Verdict.NONE,
        comment="What the gates say: passed, failed, or none (no gates, or no report yet). Apart from the state.",
    )
    problem: Mapped[dict[str, Any] | None] = mapped_column(comment="RFC 9457 object of the failure.")
    labels: Mapped[dict[str, str]] = mapped_column(default=dict)
    priority: Mapped[int] = mapped_column(
        SmallInteger, default=0, server_default="0", comment="The spec's; jobs of a higher one go first."
    )
    sweep_id: Mapped[UUID | None] = mapped_column(
        ForeignKey(Sweep.id, ondelete="CASCADE"), comment="The sweep that it is a point of."
    )
    sweep_place: Mapped[int | None] = mapped_column(comment="Which of its points, from 0.")
    asked_of: Mapped[UUID | None] = mapped_column(
        ForeignKey("jobs.id", ondelete="CASCADE"),
        comment="The job whose models answer, where this is a question's: it is in no list and no count of jobs.",
    )
    question: Mapped[dict[str, Any] | None] = mapped_column(comment="What they are asked.")
    caller: Mapped[str] = mapped_column(comment="Whose idempotency keys these are: the API key's name.")
    request_id: Mapped[str | None] = mapped_column(comment="X-Request-Id of the request that made the job.")
    traceparent: Mapped[str | None] = mapped_column(
        comment="W3C trace context of the request that made or last retried the job: its attempts belong there."
    )
    idempotency_key: Mapped[str | None]
    idempotency_fingerprint: Mapped[str | None] = mapped_column(comment="sha256 of the body that the key came with.")
    cancel_requested_at: Mapped[datetime | None]
    deadline_at: Mapped[datetime | None] = mapped_column(comment="The job is cancelled if it is not over by then.")
    started_at: Mapped[datetime | None] = mapped_column(comment="First claim of a stage.")
    finished_at: Mapped[datetime | None]
    last_event_seq: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")

    stages: Mapped[list[Stage]] = relationship(
        order_by="Stage.place", back_populates="job", lazy="selectin", passive_deletes=True
    )


# How many jobs stand in each state, as changes: a trigger on `jobs` adds a row for every job that comes, goes or moves.
# Rows are only added, so transactions never wait for each other here as they would for a counter.
job_counts = Table(
    "job_counts",
    Base.metadata,
    Column("state", Text(), nullable=False),
    Column("change", BigInteger, nullable=False, comment="To the number of jobs in this state."),
    comment="Summed up by state, the number of jobs; the janitor folds rows together.",
)


class Stage(Base):
    """One step of a job: one message, one claim at a time, one process."""

    __tablename__ = "stages"
    __table_args__ = (
        UniqueConstraint("job_id", "key"),
        CheckConstraint("key ~ '^[a-z0-9][a-z0-9._-]{0,62}$'", name="key"),
        CheckConstraint("attempt >= 0 AND crashes >= 0 AND token >= attempt", name="counters"),
        CheckConstraint(
            "(state IN ('running', 'cancelling')) = (lease_expires_at IS NOT NULL)", name="lease_while_running"
        ),
        CheckConstraint(
            "state <> 'succeeded' OR (result IS NOT NULL AND output IS NOT NULL)", name="succeeded_has_result"
        ),
        CheckConstraint(
            "waits_for IS NULL OR (state = 'queued' AND dedupe_key IS NOT NULL)", name="waits_in_the_queue"
        ),
        CheckConstraint("state <> 'failed' OR problem IS NOT NULL", name="failed_says_why"),
        Index(  # what waits for a worker: the janitor's re-sends, and the depth of the queue
            "ix_stages_waiting",
            "enqueued_at",
            postgresql_where=text("state = 'queued' AND enqueued_at IS NOT NULL"),
        ),
        Index(  # which stage a free worker takes: those of jobs that have begun before the first ones of others
            "ix_stages_turn",
            text("(cardinality(needs) = 0)"),
            "job_id",
            postgresql_where=text("state = 'queued' AND enqueued_at IS NOT NULL"),
        ),
        Index(  # whose lease has run out: the janitor's rescues
            "ix_stages_lease_expires_at",
            "lease_expires_at",
            postgresql_where=text("lease_expires_at IS NOT NULL"),
        ),
        Index(  # a result that an identical stage may share
            "ix_stages_dedupe_key",
            "dedupe_key",
            postgresql_where=text("state = 'succeeded' AND dedupe_key IS NOT NULL"),
        ),
        Index(  # of identical stages, one computes: two workers that claim them in the same instant meet here
            "uq_stages_computing",
            "dedupe_key",
            unique=True,
            postgresql_where=text("state IN ('running', 'cancelling') AND dedupe_key IS NOT NULL"),
        ),
        Index(  # who waits for the result of a twin, or was woken to compute it in its place
            "ix_stages_twins",
            "dedupe_key",
            postgresql_where=text("state = 'queued' AND dedupe_key IS NOT NULL"),
        ),
        Index(  # by which the time and memory of new ones are judged: the newest of a kind
            "ix_stages_past",
            "kind",
            text("id DESC"),
            postgresql_where=text("state = 'succeeded' AND attempt = 1 AND memory IS NOT NULL"),
        ),
        Index("ix_stages_output", "output", postgresql_where=text("output IS NOT NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    job_id: Mapped[UUID] = mapped_column(ForeignKey(Job.id, ondelete="CASCADE"))
    key: Mapped[str] = mapped_column(
        comment="Its own within the job: what events, artifacts and other stages name it by."
    )
    kind: Mapped[str] = mapped_column(comment="What it does: a row of the table of kinds in the code.")
    needs: Mapped[list[str]] = mapped_column(comment="Keys of the stages that it waits for, and whose output it reads.")
    place: Mapped[int] = mapped_column(Integer, comment="Order for people, from 0: each after all that it needs.")
    added_by: Mapped[str | None] = mapped_column(comment="Key of the stage that added it; NULL: the spec did.")
    state: Mapped[State] = mapped_column(
        words(State, "state"),
        default=State.QUEUED,
        comment=(
            "queued: not begun, or put back; its turn has come if enqueued_at is set. "
            "running: a worker holds the lease. "
            "cancelling: as running, and the worker is to stop the process. "
            "succeeded: result, artifacts and the turn of those that it made ready were committed together; terminal. "
            "failed: the problem stands beside; queued again by a retry. "
            "cancelled: never begun or stopped; queued again by a retry."
        ),
    )
    attempt: Mapped[int] = mapped_column(default=0, comment="How often it was claimed, ever.")
    crashes: Mapped[int] = mapped_column(
        default=0, comment="Attempts since the last retry that ended in a crash or a lost lease; limited."
    )
    token: Mapped[int] = mapped_column(
        BigInteger, default=0, comment="Fencing token: grows with every claim and rescue; older ones are refused."
    )
    worker: Mapped[str | None] = mapped_column(comment="Host and process of the last claim.")
    lease_expires_at: Mapped[datetime | None] = mapped_column(comment="Set while a worker holds the stage.")
    enqueued_at: Mapped[datetime | None] = mapped_column(
        comment="When its message was last (to be) sent; NULL until all that it needs has succeeded."
    )
    heartbeat_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None] = mapped_column(comment="Start of the last attempt.")
    finished_at: Mapped[datetime | None]
    progress: Mapped[dict[str, Any] | None] = mapped_column(comment="Last known {done, total, unit}.")
    relayed: Mapped[int] = mapped_column(
        default=0, comment="Events of this attempt that are committed: a batch whose commit was cut is not doubled."
    )
    result: Mapped[dict[str, Any] | None] = mapped_column(comment="As its kind says.")
    memory: Mapped[int | None] = mapped_column(
        BigInteger,
        comment="Bytes that its processes used at most, mapped files apart; NULL: not known, or the result was shared.",
    )
    use: Mapped[dict[str, Any] | None] = mapped_column(
        comment="What it used of its machine when that was last measured: memory, processor, GPU."
    )
    output: Mapped[str | None] = mapped_column(
        comment="Folder of the published files in the store; another stage's where the result was shared."
    )
    problem: Mapped[dict[str, Any] | None] = mapped_column(comment="RFC 9457 object of the failure.")
    dedupe_key: Mapped[str | None] = mapped_column(
        comment="sha256 over all that decides the result; equal keys share one, and one at a time computes it. "
        "NULL: never shared, or not known yet."
    )

    waits_for: Mapped[UUID | None] = mapped_column(
        comment="The job whose identical stage computes just now; its result is taken over."
    )

    job: Mapped[Job] = relationship(back_populates="stages", lazy="raise")
