"""Jobs are counted as they change, and what a worker takes next and what is not over yet have indexes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "job_counts",
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("change", sa.BigInteger(), nullable=False, comment="To the number of jobs in this state."),
        comment="Summed up by state, the number of jobs; the janitor folds rows together.",
    )
    op.execute("""
        CREATE FUNCTION count_jobs() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP <> 'INSERT' THEN
                INSERT INTO job_counts (state, change) VALUES (OLD.state, -1);
            END IF;
            IF TG_OP <> 'DELETE' THEN
                INSERT INTO job_counts (state, change) VALUES (NEW.state, 1);
            END IF;
            RETURN NULL;
        END
        $$
    """)
    op.execute("""
        CREATE TRIGGER count_jobs AFTER INSERT OR DELETE OR UPDATE OF state ON jobs
        FOR EACH ROW EXECUTE FUNCTION count_jobs()
    """)
    op.execute("INSERT INTO job_counts (state, change) SELECT state, count(*) FROM jobs GROUP BY state")
    op.create_index(
        "ix_jobs_unfinished",
        "jobs",
        ["id"],
        postgresql_where=sa.text("state IN ('queued', 'running', 'cancelling')"),
    )
    op.create_index(
        "ix_stages_turn",
        "stages",
        [sa.literal_column("(position = 0)"), "job_id"],
        postgresql_where=sa.text("state = 'queued' AND enqueued_at IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_stages_turn", table_name="stages")
    op.drop_index("ix_jobs_unfinished", table_name="jobs")
    op.execute("DROP TRIGGER count_jobs ON jobs")
    op.execute("DROP FUNCTION count_jobs")
    op.drop_table("job_counts")
