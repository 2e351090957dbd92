"""A transaction is tried again while the database is away, and only then."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from app.db.session import SessionFactory
from workers.supervision import patient_transactions
from workers.supervision.patient_transactions import LONGEST_PAUSE, GaveUp, transact_patiently

AWAY = OperationalError(None, None, Exception("connection refused"))  # while connecting
DEFECT = IntegrityError("INSERT", {}, Exception("duplicate key"))


@pytest.fixture
def sessions() -> Iterator[SessionFactory]:
    engine = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none")  # no work here asks it anything
    yield sessionmaker(engine)
    engine.dispose()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Every pause that was taken, without taking it."""
    taken: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", taken.append)
    return taken


class Work:
    """Fails so many times, then succeeds."""

    def __init__(self, failures: int, error: Exception = AWAY) -> None:
        self.failures, self.error, self.calls = failures, error, 0

    def __call__(self, session: Session) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return "done"


def test_it_is_tried_until_the_database_answers(
    sessions: SessionFactory, pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    work = Work(12)
    assert transact_patiently(sessions, work, give_up=lambda: False) == "done"
    assert work.calls == 13
    assert len(pauses) == 12
    assert pauses[0] < pauses[3] < pauses[-1] == LONGEST_PAUSE
    assert caplog.text.count("trying again") == 12


def test_what_a_query_did_wrong_is_not_tried_again(sessions: SessionFactory, pauses: list[float]) -> None:
    work = Work(1, DEFECT)
    with pytest.raises(IntegrityError):
        transact_patiently(sessions, work, give_up=lambda: False)
    assert (work.calls, pauses) == (1, [])


def test_it_is_tried_once_at_least(sessions: SessionFactory, pauses: list[float]) -> None:
    assert transact_patiently(sessions, Work(0), give_up=lambda: True) == "done"
    with pytest.raises(GaveUp) as gave_up:
        transact_patiently(sessions, Work(1), give_up=lambda: True)
    assert gave_up.value.__cause__ is AWAY
    assert pauses == []


def test_it_gives_up_when_it_is_told_to(sessions: SessionFactory, pauses: list[float]) -> None:
    work = Work(100)
    with pytest.raises(GaveUp):
        transact_patiently(sessions, work, give_up=lambda: work.calls == 3)
    assert len(pauses) == 2


def test_pauses_are_not_the_same_for_all(sessions: SessionFactory, pauses: list[float]) -> None:
    for _ in range(5):
        transact_patiently(sessions, Work(1), give_up=lambda: False)
    assert len(set(pauses)) > 1
    assert all(0 < pause <= patient_transactions.FIRST_PAUSE + patient_transactions.JITTER for pause in pauses)
