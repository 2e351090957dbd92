"""Migrations of a database that holds jobs: what was begun before goes on after them."""

from __future__ import annotations

import json
from uuid import UUID

import psycopg
import pytest
from alembic import command

from app.db import claims, jobs, stages
from app.db.migrate import alembic_config, upgrade
from app.db.session import make_engine, make_session_factory, unit_of_work
from secateur.contract.jobs import State

JOB = UUID("01935e3a-1c3a-7b6e-9a53-4c1f2d3e4f50")
LINE = ("check", "score", "prune", "recover", "benchmark", "report")
SPEC = '{"model": {"source": "hub", "id": "org/m"}, "pruning": {"kind": "depth", "blocks": 1}}'


@pytest.fixture
def filled(empty_database_url: str) -> str:
    """The last schema whose stages had positions, with a job whose check and score have succeeded."""
    command.upgrade(alembic_config(empty_database_url), "0008")
    with psycopg.connect(empty_database_url) as connection:
        connection.execute(
            "INSERT INTO jobs (id, spec, model_id, state, verdict, labels, caller, last_event_seq) "
            "VALUES (%s, %s, 'org/m', 'running', 'none', '{}', 'me', 1)",
            (JOB, SPEC),
        )
        for position, name in enumerate(LINE):
            done = position < 2
            connection.execute(
                "INSERT INTO stages (id, job_id, name, position, state, attempt, crashes, token, relayed, enqueued_at, "
                "result, output) VALUES (%s, %s, %s, %s, %s, %s, 0, %s, 0, %s, %s, %s)",
                (
                    *(UUID(int=position + 1), JOB, name, position, "succeeded" if done else "queued"),
                    *(int(done), int(done), "now" if position < 3 else None),
                    *('{"blocks": []}' if done else None, f"stages/{name}/1" if done else None),
                ),
            )
        connection.execute(
            "INSERT INTO events (job_id, seq, type, level, stage, data) VALUES (%s, 1, 'log', 'info', 'score', '{}')",
            (JOB,),
        )
    return empty_database_url


def test_a_job_in_the_middle_goes_on(filled: str) -> None:
    upgrade(filled)
    engine = make_engine(filled)
    sessions = make_session_factory(engine)
    with unit_of_work(sessions) as session:
        job = jobs.get(session, JOB)
        assert [(stage.key, stage.kind, stage.place, stage.added_by) for stage in job.stages] == [
            (name, name, place, None) for place, name in enumerate(LINE)
        ]
        assert [tuple(stage.needs) for stage in job.stages] == [LINE[:place] for place in range(len(LINE))]
        assert stages.waiting_ids(job) == (job.stages[2].id,)
    for name in LINE[2:]:
        with unit_of_work(sessions) as session:
            claim = claims.claim_next(session, worker=name, lease_seconds=30)
            assert claim is not None
            assert claim.key == name
            claims.succeed(session, claim, result={"verdict": "none"}, output=f"stages/{name}/1", files=[])
    with unit_of_work(sessions) as session:
        assert jobs.get(session, JOB).state is State.SUCCEEDED
    engine.dispose()


def test_a_line_goes_back_and_a_graph_does_not(filled: str) -> None:
    command.upgrade(alembic_config(filled), "0009")
    with psycopg.connect(filled) as connection:
        connection.execute(
            "INSERT INTO jobs (id, spec, model_id, state, verdict, labels, caller, last_event_seq) "
            "VALUES (%s, %s, 'org/m', 'running', 'none', '{}', 'me', 0)",
            (UUID(int=7), SPEC),
        )
        connection.execute(
            "INSERT INTO stages (id, job_id, key, kind, needs, place, state, attempt, crashes, token, relayed) "
            "VALUES (%s, %s, 'score-2', 'score', '{}', 0, 'queued', 0, 0, 0, 0)",
            (UUID(int=8), UUID(int=7)),
        )
    command.downgrade(alembic_config(filled), "0008")
    with psycopg.connect(filled) as connection:
        found = connection.execute("SELECT job_id, name, position FROM stages ORDER BY position").fetchall()
    assert found == [(JOB, name, position) for position, name in enumerate(LINE)]


def test_the_choice_moves_from_the_scores_to_the_pruning(empty_database_url: str) -> None:
    """And back: what a job found is shown as before."""
    scores = {"order": [2, 1, 0], "drop": [2], "protected": [0], "options": {"criterion": "taylor", "plus": True}}
    config = alembic_config(empty_database_url)
    command.upgrade(config, "0009")
    found = "SELECT kind, result FROM stages ORDER BY place"
    with psycopg.connect(empty_database_url) as connection:
        connection.execute(
            "INSERT INTO jobs (id, spec, model_id, state, verdict, labels, caller, last_event_seq) "
            "VALUES (%s, %s, 'm', 'running', 'none', '{}', 'me', 0)",
            (JOB, json.dumps({"scoring": scores["options"]})),
        )
        for place, (kind, result) in enumerate({"score": scores, "prune": {"dropped": [2]}}.items()):
            connection.execute(
                "INSERT INTO stages (id, job_id, key, kind, needs, place, state, attempt, crashes, token, relayed, "
                "result, output) VALUES (%s, %s, %s, %s, %s, %s, 'succeeded', 1, 0, 1, 0, %s, 'o')",
                (UUID(int=place), JOB, kind, kind, ["score"] * place, place, json.dumps(result)),
            )
        before = connection.execute(found).fetchall()
    command.upgrade(config, "0010")
    with psycopg.connect(empty_database_url) as connection:
        assert dict(connection.execute(found).fetchall()) == {
            "score": {"order": [2, 1, 0], "options": {"criterion": "taylor"}},
            "prune": {"dropped": [2], "protected": [0]},
        }
    command.downgrade(config, "0009")
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute(found).fetchall() == before
