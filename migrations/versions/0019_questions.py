"""A finished job is asked questions: each is a small job of its own, which no list and no count of jobs has."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

ASKED_OF = "The job whose models answer, where this is a question's: it is in no list and no count of jobs."
TYPES = ("state", "progress", "log", "metrics", "text", "verdict")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("asked_of", sa.Uuid(), nullable=True, comment=ASKED_OF))
    op.add_column(
        "jobs", sa.Column("question", JSONB(none_as_null=True), nullable=True, comment="What they are asked.")
    )
    op.create_foreign_key(op.f("fk_jobs_asked_of_jobs"), "jobs", "jobs", ["asked_of"], ["id"], ondelete="CASCADE")
    op.create_check_constraint(op.f("ck_jobs_question"), "jobs", "(asked_of IS NULL) = (question IS NULL)")
    op.create_index(
        "ix_jobs_asked_of",
        "jobs",
        ["asked_of", sa.text("id DESC")],
        postgresql_where=sa.text("asked_of IS NOT NULL"),
    )
    _count("OLD.asked_of IS NULL", "NEW.asked_of IS NULL")
    _allow(*TYPES)


def downgrade() -> None:
    op.execute("DELETE FROM jobs WHERE asked_of IS NOT NULL")
    _allow(*(name for name in TYPES if name != "text"))
    _count("true", "true")
    op.drop_index("ix_jobs_asked_of", table_name="jobs")
    op.drop_constraint(op.f("ck_jobs_question"), "jobs")
    op.drop_constraint(op.f("fk_jobs_asked_of_jobs"), "jobs")
    op.drop_column("jobs", "question")
    op.drop_column("jobs", "asked_of")


def _count(old: str, new: str) -> None:
    """Count jobs of which these hold."""
    op.execute(f"""
        CREATE OR REPLACE FUNCTION count_jobs() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP <> 'INSERT' AND {old} THEN
                INSERT INTO job_counts (state, change) VALUES (OLD.state, -1);
            END IF;
            IF TG_OP <> 'DELETE' AND {new} THEN
                INSERT INTO job_counts (state, change) VALUES (NEW.state, 1);
            END IF;
            RETURN NULL;
        END
        $$
    """)


def _allow(*types: str) -> None:
    """Let events be of these types."""
    op.drop_constraint(op.f("ck_events_type"), "events")
    listed = ", ".join(f"'{name}'" for name in types)
    op.create_check_constraint(op.f("ck_events_type"), "events", f"type IN ({listed})")
