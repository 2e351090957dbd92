"""Jobs have a priority, and those that wait are taken in turn of their callers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    comment = "The spec's; jobs of a higher one go first."
    op.add_column("jobs", sa.Column("priority", sa.SmallInteger(), server_default="0", nullable=False, comment=comment))
    op.create_check_constraint(op.f("ck_jobs_priority"), "jobs", "priority BETWEEN -9 AND 9")
    waiting, begun = sa.text("state = 'queued'"), sa.text("started_at IS NOT NULL")
    op.create_index("ix_jobs_turn", "jobs", [sa.text("priority DESC"), "caller", "id"], postgresql_where=waiting)
    op.create_index("ix_jobs_caller_started_at", "jobs", ["caller", "started_at"], postgresql_where=begun)


def downgrade() -> None:
    op.drop_index("ix_jobs_caller_started_at", table_name="jobs")
    op.drop_index("ix_jobs_turn", table_name="jobs")
    op.drop_constraint(op.f("ck_jobs_priority"), "jobs")
    op.drop_column("jobs", "priority")
