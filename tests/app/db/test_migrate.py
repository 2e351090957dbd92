"""The migrations make the schema that the tables describe, and can be undone."""

from __future__ import annotations

import subprocess
import sys

import psycopg
import pytest
from alembic import command

from app.db.migrate import alembic_config, is_current, upgrade
from app.db.session import make_engine
from app.db.tables.metadata import METADATA
from secateur.contract.jobs import State

SCHEMA = """
    SELECT table_name || '.' || column_name, data_type, is_nullable, column_default, col_description(
        (quote_ident(table_name))::regclass, ordinal_position)
    FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1
"""
CONSTRAINTS = """
    SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace ORDER BY 1
"""
INDEXES = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"


def describe(url: str) -> list[list[tuple[object, ...]]]:
    with psycopg.connect(url) as connection:
        return [connection.execute(query).fetchall() for query in (SCHEMA, CONSTRAINTS, INDEXES)]


def test_up_down_up_gives_the_same_schema(empty_database_url: str) -> None:
    config = alembic_config(empty_database_url)
    assert not is_current(empty_database_url)
    upgrade(empty_database_url)
    assert is_current(empty_database_url)
    first = describe(empty_database_url)
    command.downgrade(config, "base")
    tables = [row[0] for row in describe(empty_database_url)[0]]
    assert {str(name).split(".")[0] for name in tables} == {"alembic_version"}
    command.upgrade(config, "head")
    assert describe(empty_database_url) == first


def test_models_and_migrations_agree(database_url: str) -> None:
    command.check(alembic_config(database_url))


def test_models_and_migrations_agree_on_constraints(database_url: str, empty_database_url: str) -> None:
    """`alembic check` does not look at CHECK constraints and partial indexes."""
    engine = make_engine(empty_database_url)
    METADATA.create_all(engine)
    engine.dispose()
    migrated = [[row for row in part if "alembic_version" not in str(row[0])] for part in describe(database_url)]
    migrated[1] = [row for row in migrated[1] if "alembic" not in str(row[0])]
    migrated[2] = [row for row in migrated[2] if "alembic" not in str(row[0])]
    assert migrated == describe(empty_database_url)


def test_every_state_is_explained_in_the_database(database_url: str) -> None:
    comments = {str(row[0]): str(row[4]) for row in describe(database_url)[0]}
    for table in ("jobs", "stages"):
        for state in State:
            assert f"{state.value}:" in comments[f"{table}.state"]


@pytest.mark.thorough
def test_processes_may_upgrade_at_once(empty_database_url: str) -> None:
    program = "import sys; from app.db.migrate import upgrade; upgrade(sys.argv[1])"
    running = [subprocess.Popen([sys.executable, "-c", program, empty_database_url]) for _ in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    assert is_current(empty_database_url)
