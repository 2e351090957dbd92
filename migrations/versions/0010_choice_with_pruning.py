"""Which blocks go stands in the result of pruning, and no longer in that of scoring."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_PAIR = "p.job_id = s.job_id AND p.kind = 'prune' AND s.kind = 'score' AND s.key = ANY (p.needs)"


def upgrade() -> None:
    op.execute(f"""
        UPDATE stages AS p SET result = jsonb_set(p.result, '{{protected}}', s.result -> 'protected')
        FROM stages AS s WHERE {_PAIR} AND p.result IS NOT NULL AND s.result ? 'protected'
    """)
    op.execute("""
        UPDATE stages SET result = jsonb_set(result - 'drop' - 'protected', '{options}', (result -> 'options') - 'plus')
        WHERE kind = 'score' AND result ? 'options'
    """)


def downgrade() -> None:
    """Jobs with scores by which nothing was pruned yet are removed: no choice could be written to them."""
    op.execute(f"""
        UPDATE stages AS s SET result = s.result || jsonb_build_object(
            'drop', p.result -> 'dropped', 'protected', coalesce(p.result -> 'protected', '[]'),
            'options', (SELECT spec -> 'scoring' FROM jobs WHERE id = s.job_id)
        )
        FROM stages AS p WHERE {_PAIR} AND p.result IS NOT NULL AND s.result IS NOT NULL
    """)
    op.execute("UPDATE stages SET result = result - 'protected' WHERE kind = 'prune' AND result IS NOT NULL")
    op.execute("""
        DELETE FROM jobs WHERE id IN (
            SELECT job_id FROM stages WHERE kind = 'score' AND state = 'succeeded' AND NOT result ? 'drop'
        )
    """)
