"""Workers are seen: each keeps a row with its host, device and slots, and renews it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    moment, now = sa.DateTime(timezone=True), sa.text("now()")
    op.create_table(
        "workers",
        sa.Column("id", sa.Uuid(), nullable=False, comment="Another one after each start."),
        sa.Column(
            "name", sa.Text(), nullable=False, comment="Host and process; the claims of its stages begin with it."
        ),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False, comment="Stages that it runs at a time."),
        sa.Column("stage_memory", sa.BigInteger(), nullable=False, comment="Bytes that each of them may use."),
        sa.Column("device", sa.Text(), nullable=True, comment="cpu or cuda; NULL while none has been found to work."),
        sa.Column("device_name", sa.Text(), nullable=True),
        sa.Column("device_memory", sa.BigInteger(), nullable=True, comment="Bytes."),
        sa.Column(
            "problem", sa.Text(), nullable=True, comment="Why its device does not work, so that it takes no stage."
        ),
        sa.Column("started_at", moment, server_default=now, nullable=False),
        sa.Column("heartbeat_at", moment, server_default=now, nullable=False),
        sa.Column(
            "up_until",
            moment,
            nullable=False,
            comment="It counts as lost where it has not renewed its row by then.",
        ),
        sa.CheckConstraint("slots > 0", name=op.f("ck_workers_slots")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
    )


def downgrade() -> None:
    op.drop_table("workers")
