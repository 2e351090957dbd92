"""The request that made a job, and the one behind each of its events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("request_id", sa.Text(), comment="X-Request-Id of the request that made the job."))
    op.add_column(
        "jobs",
        sa.Column(
            "traceparent",
            sa.Text(),
            comment="W3C trace context of the request that made or last retried the job: its attempts belong there.",
        ),
    )
    op.add_column(
        "events",
        sa.Column("request_id", sa.Text(), comment="X-Request-Id of the request behind it; else of the job's."),
    )


def downgrade() -> None:
    op.drop_column("events", "request_id")
    op.drop_column("jobs", "traceparent")
    op.drop_column("jobs", "request_id")
