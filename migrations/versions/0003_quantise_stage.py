"""A stage that quantises, between recover and benchmark."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BEFORE = ("score", "prune", "recover", "benchmark", "report")
AFTER = ("score", "prune", "recover", "quantise", "benchmark", "report")
RESULTS_BEFORE = "Scores, Pruned, Recovered, Benchmarks or Report."
RESULTS_AFTER = "Scores, Pruned, Recovered, Quantised, Benchmarks or Report."
COLUMNS = (("stages", "name"), ("events", "stage"), ("artifacts", "stage"))


def upgrade() -> None:
    _allow(AFTER)
    op.execute(f"COMMENT ON COLUMN stages.result IS '{RESULTS_AFTER}'")


def downgrade() -> None:
    """Jobs that quantise are removed: the stage has no place in the schema before."""
    op.execute("DELETE FROM jobs WHERE id IN (SELECT job_id FROM stages WHERE name = 'quantise')")
    _allow(BEFORE)
    op.execute(f"COMMENT ON COLUMN stages.result IS '{RESULTS_BEFORE}'")


def _allow(names: tuple[str, ...]) -> None:
    quoted = ", ".join(f"'{name}'" for name in names)
    for table, column in COLUMNS:
        constraint = op.f(f"ck_{table}_{column}")
        op.drop_constraint(constraint, table, type_="check")
        op.create_check_constraint(constraint, table, f"{column} IN ({quoted})")
