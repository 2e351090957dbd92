"""Events are kept once, in their order, and without a gap."""

from __future__ import annotations

import threading

from sqlalchemy.orm import Session

from app.db import claims, events, jobs
from app.db.session import SessionFactory, unit_of_work
from tests.fixtures.job_rows import insert, take


def test_a_batch_is_relayed_once_and_a_longer_one_from_where_it_went_on(session: Session) -> None:
    job = insert(session)
    claim = take(session, job)
    lines = [events.log(str(n)) for n in range(5)]
    claims.add_events(session, claim, lines[:2], before=0, progress={"done": 1, "total": 2, "unit": "x"})
    claims.add_events(session, claim, lines[:2], before=0)
    claims.add_events(session, claim, lines[:4], before=0)
    claims.add_events(session, claim, lines[4:], before=4)
    logged = [event.data["message"] for event in events.after(session, job.id, types=["log"])]
    assert logged == ["0", "1", "2", "3", "4"]
    assert jobs.get(session, job.id).stages[0].progress == {"done": 1, "total": 2, "unit": "x"}


def test_events_of_many_writers_have_no_gap(sessions: SessionFactory) -> None:
    with unit_of_work(sessions) as session:
        job = insert(session)

    def write(writer: int) -> None:
        for n in range(10):
            with unit_of_work(sessions) as session:
                events.append(session, job.id, [events.log(f"{writer} {n} {i}") for i in range(3)])

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with unit_of_work(sessions) as session:
        found = events.after(session, job.id, limit=1000)
        assert [event.seq for event in found] == list(range(1, 122))
        assert [event.seq for event in events.after(session, job.id, seq=100, limit=5)] == [101, 102, 103, 104, 105]
        assert jobs.get(session, job.id).last_event_seq == 121
