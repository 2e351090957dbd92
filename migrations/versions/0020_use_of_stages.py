"""What a stage that runs uses of its machine is kept, so that people see it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

COMMENT = "What it used of its machine when that was last measured: memory, processor, GPU."


def upgrade() -> None:
    op.add_column("stages", sa.Column("use", postgresql.JSONB(none_as_null=True), nullable=True, comment=COMMENT))


def downgrade() -> None:
    op.drop_column("stages", "use")
