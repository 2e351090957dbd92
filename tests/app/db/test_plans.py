"""How PostgreSQL finds rows among 100,000 jobs: nothing reads a whole table of jobs, stages or events."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.orm import Session

from app.db import claims, datasets, events, jobs, past_stages, stages, sweeps, twins, workers
from app.db.job_pages import JobFilters, list_page
from app.db.queue_place import QueuePlace, queue_place
from app.db.queue_times import load_before, times_of
from app.db.session import make_engine
from secateur.contract.errors import StageFailed
from secateur.contract.jobs import State, Verdict
from secateur.contract.spec import CompressionSpec
from tests.fixtures.crowd import CROWD, UNFINISHED, stage_of

JOB = UUID(f"{CROWD:012x}70008000000000000000")
SPEC = CompressionSpec.model_validate(
    {"model": {"source": "hub", "id": "org/model"}, "pruning": {"kind": "depth", "blocks": 1}}
)
PROBLEM = StageFailed("it broke.").to_problem()


def listed(**filters: Any) -> Callable[[Session], object]:
    return lambda session: list_page(session, filters=JobFilters(**filters))


def unused_dataset(session: Session) -> None:
    session.execute(
        text(
            "INSERT INTO datasets (id, name, format, kind, rows, size, sha256, key) "
            "VALUES (:id, 'a', 'text', 'text', 1, 1, '0', 'k')"
        ),
        {"id": JOB},
    )
    datasets.delete(session, JOB)


QUERIES: dict[str, Callable[[Session], object]] = {
    "where a job stands in the queue": lambda session: queue_place(session, JOB),
    "what a job waits behind": lambda session: load_before(session, JOB, QueuePlace(3, 1)),
    "how long stages took": lambda session: times_of(session, [("check", "org/model-7"), ("score", "org/none")]),
    "what workers run": workers.held,
    "stages that new ones are judged by": lambda session: past_stages.newest(session, ["check", "score"]),
    "benchmarks of a model": lambda session: past_stages.benchmarks_of(session, "org/model-7"),
    "the dashboard's counts": jobs.count_by_state,
    "the metrics' count of stages": stages.count_waiting,
    "the list": listed(),
    "the list behind a job": lambda session: list_page(session, after=JOB),
    "a rare state": listed(state=State.RUNNING),
    "a common state": listed(state=State.SUCCEEDED),
    "no such state": listed(state=State.FAILED),
    "a verdict": listed(verdict=Verdict.PASSED),
    "no such verdict": listed(verdict=Verdict.FAILED),
    "a model": listed(model="org/model-7"),
    "no such model": listed(model="org/none"),
    "a label of one job": listed(labels={"commit": "77"}),
    "a label of all jobs": listed(labels={"branch": "main"}),
    "no such label": listed(labels={"commit": "none"}),
    "how an id begins or ends": listed(part=JOB.hex[:12]),
    "words in a model's name": listed(words="MODEL 7"),
    "words that are in all": listed(words="o", state=State.SUCCEEDED),
    "words that are in none": listed(words="nothing"),
    "words or an id": listed(words=JOB.hex[:12], labels={"branch": "main"}),
    "all filters": listed(
        state=State.SUCCEEDED, verdict=Verdict.PASSED, model="org/model-7", labels={"branch": "main"}
    ),
    "sweeps": sweeps.list_page,
    "how sweeps stand": lambda session: sweeps.standings(session, [JOB, uuid4()]),
    "the points of a sweep": lambda session: sweeps.points(session, JOB),
    "the reports of a sweep": lambda session: sweeps.reports(session, JOB),
    "what a sweep has shared": lambda session: sweeps.done_stages(session, JOB),
    "jobs of a sweep that have failed": lambda session: sweeps.job_ids(session, JOB, State.FAILED),
    "a job": lambda session: jobs.get(session, JOB),
    "its events": lambda session: events.after(session, JOB, types=["log", "state"]),
    "an idempotency key": lambda session: jobs.by_idempotency_key(session, caller="me", key="k"),
    "a new job": lambda session: jobs.insert(session, spec=SPEC, caller="me"),
    "a claim": lambda session: claims.claim_next(session, worker="w", lease_seconds=30),
    "a rescue": lambda session: claims.rescue(session, stage_of(CROWD - 1), problem=PROBLEM, max_attempts=3),
    "a cancel": lambda session: jobs.request_cancel(session, JOB),
    "a deletion": lambda session: jobs.delete(session, UUID(int=JOB.int - (CROWD - 1 << 80))),
    "leases that have run out": stages.expired,
    "overdue jobs": jobs.overdue,
    "stages whose twin has ended": twins.wake,
    "a twin": lambda session: twins.find(session, "k"),
    "messages that were lost": lambda session: stages.take_unclaimed(session, older_than=0),
    "folders in use": lambda session: stages.outputs_in_use(session, ["stages/a/1", "stages/b/1"]),
    "stages that are held": lambda session: stages.tokens_held(session, [uuid4(), stage_of(5)]),
    "scratch that is needed": lambda session: stages.unfinished(session, [uuid4(), stage_of(5)]),
    "a data set that no job needs": unused_dataset,
}


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_no_query_reads_a_whole_table(crowd_engine: Engine, query: Callable[[Session], object]) -> None:
    asked: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: object) -> None:
        if statement.lstrip()[:6].upper() in {"SELECT", "UPDATE", "INSERT", "DELETE", "WITH J"}:
            asked.append((statement, parameters))

    with crowd_engine.connect() as connection, Session(connection) as session:
        event.listen(connection, "before_cursor_execute", note)
        query(session)
        event.remove(connection, "before_cursor_execute", note)
        session.rollback()
        assert asked
        for statement, parameters in asked:
            if isinstance(parameters, list):
                continue  # rows to insert
            plan = "\n".join(row[0] for row in connection.exec_driver_sql(f"EXPLAIN {statement}", parameters))
            assert not re.search(r"Seq Scan on (jobs|stages|events)\b", plan), f"{statement}\n{plan}"


def test_counts_are_what_counting_gives(session: Session) -> None:
    def counted() -> dict[State, int]:
        rows = session.execute(text("SELECT state, count(*) FROM jobs GROUP BY state"))
        return dict.fromkeys(State, 0) | {State(state): count for state, count in rows}

    made = [jobs.insert(session, spec=SPEC, caller="me") for _ in range(5)]
    ids = [job.id for job in made if job is not None]
    claim = claims.claim_next(session, worker="w", lease_seconds=30)
    assert claim is not None
    jobs.request_cancel(session, ids[1])
    jobs.request_cancel(session, ids[2])
    jobs.delete(session, ids[2])
    jobs.retry(session, ids[1])
    claims.fail(session, claim, problem=PROBLEM)
    for most in (1000, 0):
        jobs.fold_counts(session, most=most)
        assert jobs.count_by_state(session) == counted()
    assert counted()[State.QUEUED] == 3
    assert session.scalar(text("SELECT count(*) FROM job_counts")) == len([n for n in counted().values() if n])


def test_the_crowd_is_counted(crowd_engine: Engine) -> None:
    with Session(crowd_engine) as session:
        counts = jobs.count_by_state(session)
        assert sum(counts.values()) == CROWD
        assert counts[State.RUNNING] + counts[State.QUEUED] + counts[State.CANCELLING] == UNFINISHED


def test_counts_hold_while_they_are_folded(engine: Engine) -> None:
    """One folds while another adds and a third reads: nothing is counted twice, and nothing is lost."""
    with Session(engine) as first, Session(engine) as adding:
        for _ in range(3):
            jobs.insert(first, spec=SPEC, caller="me")
        first.commit()
        jobs.insert(adding, spec=SPEC, caller="me")
        jobs.fold_counts(first, most=0)
        with Session(engine) as reading:
            assert jobs.count_by_state(reading)[State.QUEUED] == 3
        adding.commit()
        first.commit()
        assert jobs.count_by_state(first)[State.QUEUED] == 4


def test_the_list_is_not_planned_anew_for_each_request(database_url: str) -> None:
    """PostgreSQL plans a prepared statement again and again where its plan for any parameters looks dearer: with a
    limit that it is not told it takes a tenth of the table for the page."""
    engine = make_engine(database_url)
    prepared = text("SELECT generic_plans FROM pg_prepared_statements WHERE statement LIKE '%json_build_object%'")
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("SET plan_cache_mode = auto")
            for _ in range(20):  # some until the driver prepares it, and five until PostgreSQL may choose
                list_page(connection)
            assert connection.scalars(prepared).one() > 0
    finally:
        engine.dispose()
