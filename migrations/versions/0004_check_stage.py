"""A stage that checks the job, before all others.

Jobs that were submitted before have none, and go on as they are.
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

BEFORE = ("score", "prune", "recover", "quantise", "benchmark", "report")
AFTER = ("check", *BEFORE)
RESULTS_BEFORE = "Scores, Pruned, Recovered, Quantised, Benchmarks or Report."
RESULTS_AFTER = f"Checked, {RESULTS_BEFORE}"
COLUMNS = (("stages", "name"), ("events", "stage"), ("artifacts", "stage"))


def upgrade() -> None:
    _allow(AFTER)
    op.execute(f"COMMENT ON COLUMN stages.result IS '{RESULTS_AFTER}'")


def downgrade() -> None:
    """Checks that have not passed are lost with their jobs; others leave the jobs as they are."""
    op.execute("DELETE FROM jobs WHERE id IN (SELECT job_id FROM stages WHERE name = 'check' AND state <> 'succeeded')")
    op.execute("DELETE FROM artifacts WHERE stage = 'check'")
    op.execute("DELETE FROM events WHERE stage = 'check'")
    op.execute("DELETE FROM stages WHERE name = 'check'")
    _allow(BEFORE)
    op.execute(f"COMMENT ON COLUMN stages.result IS '{RESULTS_BEFORE}'")


def _allow(names: tuple[str, ...]) -> None:
    quoted = ", ".join(f"'{name}'" for name in names)
    for table, column in COLUMNS:
        constraint = op.f(f"ck_{table}_{column}")
        op.drop_constraint(constraint, table, type_="check")
        op.create_check_constraint(constraint, table, f"{column} IN ({quoted})")
