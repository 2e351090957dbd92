"""Stages have a key of their own within their job and need others by key, in place of a position in a line.

A stage that is there already has its kind for a key, and needs all that stood before it, as it was.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

KEY = "Its own within the job: what events, artifacts and other stages name it by."
KIND = "What it does: a row of the table of kinds in the code."
NEEDS = "Keys of the stages that it waits for, and whose output it reads."
PLACE = "Order for people, from 0: each after all that it needs."
ADDED_BY = "Key of the stage that added it; NULL: the spec did."
WAITING = sa.text("state = 'queued' AND enqueued_at IS NOT NULL")
COMMENTS = {  # (table, column): (before, after)
    ("stages", "state"): (
        "queued: not begun, or put back; its turn has come if enqueued_at is set. running: a worker "
        "holds the lease. cancelling: as running, and the worker is to stop the process. succeeded: "
        "result, artifacts and the turn of the next stage were committed together; terminal. "
        "failed: the problem stands beside; queued again by a retry. cancelled: never begun or "
        "stopped; queued again by a retry.",
        "queued: not begun, or put back; its turn has come if enqueued_at is set. running: a worker "
        "holds the lease. cancelling: as running, and the worker is to stop the process. succeeded: "
        "result, artifacts and the turn of those that it made ready were committed together; terminal. "
        "failed: the problem stands beside; queued again by a retry. cancelled: never begun or "
        "stopped; queued again by a retry.",
    ),
    ("stages", "enqueued_at"): (
        "When its message was last (to be) sent; NULL until the stages before it have succeeded.",
        "When its message was last (to be) sent; NULL until all that it needs has succeeded.",
    ),
    ("jobs", "state"): (
        "queued: no worker holds a stage, and none has since the last claim ended without success. "
        "running: a worker holds a stage, or one has succeeded and the next waits for a worker. "
        "cancelling: a cancel was asked for and a worker is stopping the process. succeeded: every "
        "stage is committed; terminal. failed: a stage failed, the problem stands beside; terminal "
        "until retried. cancelled: stopped on request or by its deadline; terminal until retried.",
        "queued: no worker holds a stage, and none has since the last claim ended without success. "
        "running: a worker holds a stage, or one has ended and others wait for a worker. "
        "cancelling: a cancel was asked for and a worker is stopping the process. succeeded: every "
        "stage is committed; terminal. failed: all is over, and a stage has failed; the problem stands beside; "
        "terminal until retried. cancelled: stopped on request or by its deadline; terminal until retried.",
    ),
    ("events", "stage"): ("NULL: of the job as a whole.", "Its key; NULL: of the job as a whole."),
    ("artifacts", "stage"): (None, "Its key."),
}


def upgrade() -> None:
    for name, type_, comment in (
        ("key", sa.Text(), KEY),
        ("kind", sa.Text(), KIND),
        ("needs", postgresql.ARRAY(sa.Text()), NEEDS),
        ("place", sa.Integer(), PLACE),
        ("added_by", sa.Text(), ADDED_BY),
    ):
        op.add_column("stages", sa.Column(name, type_, nullable=True, comment=comment))
    op.execute("""
        UPDATE stages SET key = name, kind = name, place = position, needs = ARRAY(
            SELECT earlier.name FROM stages AS earlier
            WHERE earlier.job_id = stages.job_id AND earlier.position < stages.position ORDER BY earlier.position
        )
    """)
    for name in ("key", "kind", "needs", "place"):
        op.alter_column("stages", name, nullable=False)
    op.drop_column("stages", "name")  # with their constraints and the index
    op.drop_column("stages", "position")
    op.create_unique_constraint(op.f("uq_stages_job_id_key"), "stages", ["job_id", "key"])
    op.create_check_constraint(op.f("ck_stages_key"), "stages", "key ~ '^[a-z0-9][a-z0-9._-]{0,62}$'")
    _index_turns("(cardinality(needs) = 0)")
    _comment(1)


def downgrade() -> None:
    """Jobs whose stages are no line are removed: they have no place in the schema before."""
    op.execute("DELETE FROM jobs WHERE id IN (SELECT job_id FROM stages WHERE key <> kind OR added_by IS NOT NULL)")
    op.add_column("stages", sa.Column("name", sa.Text(), nullable=True, comment="The kind."))
    position = sa.Column("position", sa.Integer(), nullable=True, comment="Order within the job, from 0.")
    op.add_column("stages", position)
    op.execute("UPDATE stages SET name = kind, position = place")
    for name in ("name", "position"):
        op.alter_column("stages", name, nullable=False)
    op.create_check_constraint(op.f("ck_stages_position"), "stages", "position >= 0")
    op.create_unique_constraint(op.f("uq_stages_job_id_name"), "stages", ["job_id", "name"])
    op.create_unique_constraint(op.f("uq_stages_job_id_position"), "stages", ["job_id", "position"])
    op.drop_index("ix_stages_turn", table_name="stages")
    for name in ("key", "kind", "needs", "place", "added_by"):
        op.drop_column("stages", name)
    _index_turns("(position = 0)")
    _comment(0)


def _index_turns(first: str) -> None:
    op.create_index("ix_stages_turn", "stages", [sa.literal_column(first), "job_id"], postgresql_where=WAITING)


def _comment(which: int) -> None:
    for (table, column), texts in COMMENTS.items():
        text = texts[which]
        op.execute(f"COMMENT ON COLUMN {table}.{column} IS " + (f"'{text}'" if text else "NULL"))
