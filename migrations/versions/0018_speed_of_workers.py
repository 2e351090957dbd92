"""A worker says how fast its device multiplies, for times that no past stage tells."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

FLOPS = "Operations a second of its device, as its probe has measured them."
READ = "Bytes of weights that it reads a second."


def upgrade() -> None:
    op.add_column("workers", sa.Column("flops", sa.Double(), nullable=True, comment=FLOPS))
    op.add_column("workers", sa.Column("weights_read", sa.Double(), nullable=True, comment=READ))


def downgrade() -> None:
    op.drop_column("workers", "weights_read")
    op.drop_column("workers", "flops")
