"""What a stage's processes used of memory is kept, so that estimates can be told from it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

COMMENT = "Bytes that its processes used at most, mapped files apart; NULL: not known, or the result was shared."


def upgrade() -> None:
    op.add_column("stages", sa.Column("memory", sa.BigInteger(), nullable=True, comment=COMMENT))
    op.create_index(
        "ix_stages_past",
        "stages",
        ["kind", sa.text("id DESC")],
        postgresql_where=sa.text("state = 'succeeded' AND attempt = 1 AND memory IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_stages_past", table_name="stages")
    op.drop_column("stages", "memory")
