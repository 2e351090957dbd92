"""The names of stages are those of a table in the code, and no list in the schema: a new kind needs no migration."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

NAMES = ("check", "score", "prune", "recover", "quantise", "benchmark", "report")
COLUMNS = (("stages", "name"), ("events", "stage"), ("artifacts", "stage"))
RESULT_BEFORE = "Checked, Scores, Pruned, Recovered, Quantised, Benchmarks or Report."
RESULT_AFTER = "As its kind says."


def upgrade() -> None:
    for table, column in COLUMNS:
        op.drop_constraint(op.f(f"ck_{table}_{column}"), table, type_="check")
        op.alter_column(table, column, type_=sa.Text())
    op.execute(f"COMMENT ON COLUMN stages.result IS '{RESULT_AFTER}'")
    op.execute("COMMENT ON COLUMN stages.name IS 'The kind.'")


def downgrade() -> None:
    """Jobs with stages of newer kinds are removed: they have no place in the schema before."""
    quoted = ", ".join(f"'{name}'" for name in NAMES)
    op.execute(f"DELETE FROM jobs WHERE id IN (SELECT job_id FROM stages WHERE name NOT IN ({quoted}))")
    for table, column in COLUMNS:
        op.alter_column(table, column, type_=sa.String(9))
        op.create_check_constraint(op.f(f"ck_{table}_{column}"), table, f"{column} IN ({quoted})")
    op.execute(f"COMMENT ON COLUMN stages.result IS '{RESULT_BEFORE}'")
    op.execute("COMMENT ON COLUMN stages.name IS NULL")
