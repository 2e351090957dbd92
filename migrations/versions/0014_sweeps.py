"""Sweeps: jobs that were made together, a point each."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sweeps",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "asked",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="The SweepSpec as it was sent.",
        ),
        sa.Column(
            "changes",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="What each point differs in, in the order of their places: field of the spec to value.",
        ),
        sa.Column(
            "gates",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="By which all points are judged, as their specs have them.",
        ),
        sa.Column("labels", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False, comment="Hub id or path of the first point's model."),
        sa.Column("caller", sa.Text(), nullable=False, comment="Whose idempotency keys these are: the API key's name."),
        sa.Column("request_id", sa.Text(), comment="X-Request-Id of the request that made the sweep."),
        sa.Column("idempotency_key", sa.Text()),
        sa.Column("idempotency_fingerprint", sa.Text(), comment="sha256 of the body that the key came with."),
        sa.CheckConstraint(
            "(idempotency_key IS NULL) = (idempotency_fingerprint IS NULL)", name=op.f("ck_sweeps_idempotency")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sweeps")),
        sa.UniqueConstraint("caller", "idempotency_key", name=op.f("uq_sweeps_caller_idempotency_key")),
    )
    op.add_column("jobs", sa.Column("sweep_id", sa.Uuid(), comment="The sweep that it is a point of."))
    op.add_column("jobs", sa.Column("sweep_place", sa.Integer(), comment="Which of its points, from 0."))
    op.create_foreign_key(op.f("fk_jobs_sweep_id_sweeps"), "jobs", "sweeps", ["sweep_id"], ["id"], ondelete="CASCADE")
    op.create_check_constraint(op.f("ck_jobs_place_in_sweep"), "jobs", "(sweep_id IS NULL) = (sweep_place IS NULL)")
    op.create_index(
        "uq_jobs_sweep_id_sweep_place",
        "jobs",
        ["sweep_id", "sweep_place"],
        unique=True,
        postgresql_where=sa.text("sweep_id IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("uq_jobs_sweep_id_sweep_place", table_name="jobs")
    op.drop_column("jobs", "sweep_place")
    op.drop_column("jobs", "sweep_id")
    op.drop_table("sweeps")
