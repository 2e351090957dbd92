"""Jobs, stages, events, artifacts, reports: the first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATES = ("queued", "running", "cancelling", "succeeded", "failed", "cancelled")
VERDICTS = ("passed", "failed", "none")
STAGES = ("score", "prune", "recover", "benchmark", "report")


def checked(values: tuple[str, ...], name: str) -> sa.Enum:
    """Text with a CHECK constraint, as `app.db.tables` has it."""
    return sa.Enum(*values, name=name, native_enum=False, create_constraint=True)


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "spec",
            postgresql.JSONB(none_as_null=True),
            nullable=False,
            comment="The CompressionSpec with its defaults filled in.",
        ),
        sa.Column(
            "model_id",
            sa.Text(),
            nullable=False,
            comment="Hub id or path of the model, as the spec names it; for filters.",
        ),
        sa.Column(
            "state",
            checked(STATES, "state"),
            nullable=False,
            comment=(
                "queued: no worker holds a stage, and none has since the last claim ended without success. "
                "running: a worker holds a stage, or one has succeeded and the next waits for a worker. "
                "cancelling: a cancel was asked for and a worker is stopping the process. succeeded: every "
                "stage is committed; terminal. failed: a stage failed, the problem stands beside; terminal "
                "until retried. cancelled: stopped on request or by its deadline; terminal until retried."
            ),
        ),
        sa.Column(
            "verdict",
            checked(VERDICTS, "verdict"),
            nullable=False,
            comment=("What the gates say: passed, failed, or none (no gates, or no report yet). Apart from the state."),
        ),
        sa.Column(
            "problem", postgresql.JSONB(none_as_null=True), nullable=True, comment="RFC 9457 object of the failure."
        ),
        sa.Column("labels", postgresql.JSONB(none_as_null=True), nullable=False),
        sa.Column("caller", sa.Text(), nullable=False, comment="Whose idempotency keys these are: the API key's name."),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column(
            "idempotency_fingerprint", sa.Text(), nullable=True, comment="sha256 of the body that the key came with."
        ),
        sa.Column("cancel_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "deadline_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="The job is cancelled if it is not over by then.",
        ),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True, comment="First claim of a stage."),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_event_seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint(
            "(finished_at IS NOT NULL) = (state IN ('succeeded', 'failed', 'cancelled'))",
            name=op.f("ck_jobs_finished_when_terminal"),
        ),
        sa.CheckConstraint("state <> 'failed' OR problem IS NOT NULL", name=op.f("ck_jobs_failed_says_why")),
        sa.CheckConstraint(
            "(idempotency_key IS NULL) = (idempotency_fingerprint IS NULL)", name=op.f("ck_jobs_idempotency")
        ),
        sa.CheckConstraint("last_event_seq >= 0", name=op.f("ck_jobs_last_event_seq")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("caller", "idempotency_key", name=op.f("uq_jobs_caller_idempotency_key")),
    )
    op.create_index(
        "ix_jobs_deadline_at",
        "jobs",
        ["deadline_at"],
        postgresql_where=sa.text("deadline_at IS NOT NULL AND state IN ('queued', 'running')"),
    )
    op.create_index(
        "ix_jobs_labels", "jobs", ["labels"], postgresql_using="gin", postgresql_ops={"labels": "jsonb_path_ops"}
    )
    op.create_index("ix_jobs_model_id_id", "jobs", ["model_id", sa.literal_column("id DESC")])
    op.create_index("ix_jobs_state_id", "jobs", ["state", sa.literal_column("id DESC")])
    op.create_index("ix_jobs_verdict_id", "jobs", ["verdict", sa.literal_column("id DESC")])
    op.create_table(
        "artifacts",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("stage", checked(STAGES, "stage"), nullable=False),
        sa.Column("path", sa.Text(), nullable=False, comment="As users see it: recover/checkpoint/model.safetensors."),
        sa.Column("key", sa.Text(), nullable=False, comment="As the store knows it."),
        sa.Column("size", sa.BigInteger(), nullable=False, comment="Bytes."),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("size >= 0", name=op.f("ck_artifacts_size")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_artifacts_job_id_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artifacts")),
        sa.UniqueConstraint("job_id", "path", name=op.f("uq_artifacts_job_id_path")),
    )
    op.create_table(
        "events",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False, comment="1, 2, 3 … within the job, without gaps."),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("stage", checked(STAGES, "stage"), nullable=True, comment="NULL: of the job as a whole."),
        sa.Column("attempt", sa.Integer(), nullable=True),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("data", postgresql.JSONB(none_as_null=True), nullable=False),
        sa.CheckConstraint("level IN ('debug', 'info', 'warning', 'error')", name=op.f("ck_events_level")),
        sa.CheckConstraint("type IN ('state', 'progress', 'log', 'metrics', 'verdict')", name=op.f("ck_events_type")),
        sa.CheckConstraint("seq > 0", name=op.f("ck_events_seq")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_events_job_id_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "seq", name=op.f("pk_events")),
    )
    op.create_table(
        "reports",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column(
            "body", postgresql.JSONB(none_as_null=True), nullable=False, comment="A report, as results.py has it."
        ),
        sa.Column("verdict", checked(VERDICTS, "verdict"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_reports_job_id_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_reports")),
    )
    op.create_table(
        "stages",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("name", checked(STAGES, "name"), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False, comment="Order within the job, from 0."),
        sa.Column(
            "state",
            checked(STATES, "state"),
            nullable=False,
            comment=(
                "queued: not begun, or put back; its turn has come if enqueued_at is set. running: a worker "
                "holds the lease. cancelling: as running, and the worker is to stop the process. succeeded: "
                "result, artifacts and the turn of the next stage were committed together; terminal. "
                "failed: the problem stands beside; queued again by a retry. cancelled: never begun or "
                "stopped; queued again by a retry."
            ),
        ),
        sa.Column("attempt", sa.Integer(), nullable=False, comment="How often it was claimed, ever."),
        sa.Column(
            "crashes",
            sa.Integer(),
            nullable=False,
            comment=("Attempts since the last retry that ended in a crash or a lost lease; limited."),
        ),
        sa.Column(
            "token",
            sa.BigInteger(),
            nullable=False,
            comment=("Fencing token: grows with every claim and rescue; older ones are refused."),
        ),
        sa.Column("worker", sa.Text(), nullable=True, comment="Host and process of the last claim."),
        sa.Column(
            "lease_expires_at", sa.DateTime(timezone=True), nullable=True, comment="Set while a worker holds the stage."
        ),
        sa.Column(
            "enqueued_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment=("When its message was last (to be) sent; NULL until the stages before it have succeeded."),
        ),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True, comment="Start of the last attempt."),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "progress", postgresql.JSONB(none_as_null=True), nullable=True, comment="Last known {done, total, unit}."
        ),
        sa.Column(
            "relayed",
            sa.Integer(),
            nullable=False,
            comment=("Events of this attempt that are committed: a batch whose commit was cut is not doubled."),
        ),
        sa.Column(
            "result",
            postgresql.JSONB(none_as_null=True),
            nullable=True,
            comment="Scores, Pruned, Recovered, Benchmarks or Report.",
        ),
        sa.Column(
            "output",
            sa.Text(),
            nullable=True,
            comment=("Folder of the published files in the store; another stage's where the result was shared."),
        ),
        sa.Column(
            "problem", postgresql.JSONB(none_as_null=True), nullable=True, comment="RFC 9457 object of the failure."
        ),
        sa.Column(
            "dedupe_key",
            sa.Text(),
            nullable=True,
            comment=("sha256 over all that decides the result; equal keys may share one. NULL: never shared."),
        ),
        sa.CheckConstraint(
            "(state IN ('running', 'cancelling')) = (lease_expires_at IS NOT NULL)",
            name=op.f("ck_stages_lease_while_running"),
        ),
        sa.CheckConstraint("state <> 'failed' OR problem IS NOT NULL", name=op.f("ck_stages_failed_says_why")),
        sa.CheckConstraint(
            "state <> 'succeeded' OR (result IS NOT NULL AND output IS NOT NULL)",
            name=op.f("ck_stages_succeeded_has_result"),
        ),
        sa.CheckConstraint("attempt >= 0 AND crashes >= 0 AND token >= attempt", name=op.f("ck_stages_counters")),
        sa.CheckConstraint("position >= 0", name=op.f("ck_stages_position")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_stages_job_id_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stages")),
        sa.UniqueConstraint("job_id", "name", name=op.f("uq_stages_job_id_name")),
        sa.UniqueConstraint("job_id", "position", name=op.f("uq_stages_job_id_position")),
    )
    op.create_index(
        "ix_stages_dedupe_key",
        "stages",
        ["dedupe_key"],
        postgresql_where=sa.text("state = 'succeeded' AND dedupe_key IS NOT NULL"),
    )
    op.create_index(
        "ix_stages_lease_expires_at",
        "stages",
        ["lease_expires_at"],
        postgresql_where=sa.text("lease_expires_at IS NOT NULL"),
    )
    op.create_index("ix_stages_output", "stages", ["output"], postgresql_where=sa.text("output IS NOT NULL"))
    op.create_index(
        "ix_stages_waiting",
        "stages",
        ["enqueued_at"],
        postgresql_where=sa.text("state = 'queued' AND enqueued_at IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_table("stages")
    op.drop_table("reports")
    op.drop_table("events")
    op.drop_table("artifacts")
    op.drop_table("jobs")
