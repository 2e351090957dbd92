"""Of identical stages one computes at a time; the others wait for its result."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

KEY_BEFORE = "sha256 over all that decides the result; equal keys may share one. NULL: never shared."
KEY_AFTER = (
    "sha256 over all that decides the result; equal keys share one, and one at a time computes it. "
    "NULL: never shared, or not known yet."
)
WAITS_FOR = "The job whose identical stage computes just now; its result is taken over."


def upgrade() -> None:
    op.add_column("stages", sa.Column("waits_for", sa.Uuid(), nullable=True, comment=WAITS_FOR))
    op.execute("UPDATE stages SET dedupe_key = NULL WHERE state <> 'succeeded'")
    op.create_check_constraint(
        op.f("ck_stages_waits_in_the_queue"),
        "stages",
        "waits_for IS NULL OR (state = 'queued' AND dedupe_key IS NOT NULL)",
    )
    op.create_index(
        "uq_stages_computing",
        "stages",
        ["dedupe_key"],
        unique=True,
        postgresql_where=sa.text("state IN ('running', 'cancelling') AND dedupe_key IS NOT NULL"),
    )
    op.create_index(
        "ix_stages_twins",
        "stages",
        ["dedupe_key"],
        postgresql_where=sa.text("state = 'queued' AND dedupe_key IS NOT NULL"),
    )
    op.execute(f"COMMENT ON COLUMN stages.dedupe_key IS '{KEY_AFTER}'")


def downgrade() -> None:
    op.execute("UPDATE stages SET enqueued_at = now() WHERE waits_for IS NOT NULL")
    op.execute("UPDATE stages SET dedupe_key = NULL WHERE state <> 'succeeded'")
    op.drop_index("ix_stages_twins", table_name="stages")
    op.drop_index("uq_stages_computing", table_name="stages")
    op.drop_constraint(op.f("ck_stages_waits_in_the_queue"), "stages", type_="check")
    op.drop_column("stages", "waits_for")
    op.execute(f"COMMENT ON COLUMN stages.dedupe_key IS '{KEY_BEFORE}'")
