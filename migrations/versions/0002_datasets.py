"""Uploaded data sets."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def checked(values: tuple[str, ...], name: str) -> sa.Enum:
    """Text with a CHECK constraint, as `app.db.tables` has it."""
    return sa.Enum(*values, name=name, native_enum=False, create_constraint=True)


def upgrade() -> None:
    op.create_table(
        "datasets",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="As it was first uploaded; for people."),
        sa.Column("format", checked(("jsonl", "text", "parquet"), "format"), nullable=False),
        sa.Column(
            "kind",
            checked(("text", "alpaca", "chat"), "kind"),
            nullable=False,
            comment="What rows hold: text, alpaca (instruction, input, output) or chat (messages).",
        ),
        sa.Column("rows", sa.BigInteger(), nullable=False, comment="Objects; of a plain text, lines."),
        sa.Column("size", sa.BigInteger(), nullable=False, comment="Bytes."),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False, comment="As the store knows it."),
        sa.CheckConstraint("size > 0", name=op.f("ck_datasets_size")),
        sa.CheckConstraint("rows > 0", name=op.f("ck_datasets_rows")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_datasets")),
        sa.UniqueConstraint("sha256", "format", name=op.f("uq_datasets_sha256_format")),
    )


def downgrade() -> None:
    op.drop_table("datasets")
