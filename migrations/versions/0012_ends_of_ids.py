"""Jobs are found by how their ids end."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    from_its_end = "reverse(replace(id::text, '-', ''))"
    op.create_index("ix_jobs_id_from_its_end", "jobs", [sa.text(from_its_end)])


def downgrade() -> None:
    op.drop_index("ix_jobs_id_from_its_end", table_name="jobs")
