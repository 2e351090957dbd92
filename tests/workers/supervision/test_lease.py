"""Keeping a claim, on a real database: what is renewed, what the process is told, and what ends it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, cast

import pytest
from sqlalchemy import func, update
from sqlalchemy.exc import OperationalError

from app.db import claims, jobs
from app.db.claims import Claim, Standing
from app.db.session import SessionFactory, unit_of_work
from app.db.tables.jobs import Job, Stage
from app.settings import Settings
from secateur.contract.jobs import State
from tests.fixtures.job_rows import PROBLEM, insert, take
from workers.launch.fork_server import StageProcess
from workers.launch.guardian import lease_clock
from workers.supervision.lease import MARGIN, LeaseKeeper

PATIENCE = 60.0  # seconds until a test gives up on a busy machine; nothing is judged by its speed


class Process:
    """In the place of a stage's process: until when it was last told that it may run."""

    def __init__(self) -> None:
        self.told: list[float] = []

    def extend(self, until: float) -> None:
        self.told.append(until)


class Held:
    """A claim, and what keeps it."""

    def __init__(self, sessions: SessionFactory, claim: Claim, settings: Settings) -> None:
        self.sessions, self.claim, self.process = sessions, claim, Process()
        self.keeper = LeaseKeeper(sessions, claim, settings, until=lease_clock() + settings.lease_seconds)

    def watch(self) -> None:
        self.keeper.watch(cast(StageProcess, self.process))

    def until(self, condition: Callable[[], object]) -> None:
        give_up = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < give_up
            time.sleep(0.01)

    def lease(self) -> datetime:
        with unit_of_work(self.sessions) as session:
            found = session.get_one(Stage, self.claim.stage_id).lease_expires_at
        assert found is not None
        return found

    def job(self) -> Job:
        with unit_of_work(self.sessions) as session:
            return jobs.get(session, self.claim.job_id)


@pytest.fixture
def hold(sessions: SessionFactory, database_url: str, redis_url: str, tmp_path: Any) -> Iterator[Callable[..., Held]]:
    """hold(heartbeat_seconds=…): a claimed stage and its keeper, which has not begun."""
    made: list[Held] = []

    def make(*, heartbeat_seconds: float = 0.05, lease_seconds: float = 300.0) -> Held:
        settings = Settings(
            data_dir=tmp_path,
            database_url=database_url,
            redis_url=redis_url,
            heartbeat_seconds=heartbeat_seconds,
            lease_seconds=lease_seconds,
        )
        with unit_of_work(sessions) as session:
            claim = take(session, insert(session))
        made.append(Held(sessions, claim, settings))
        return made[-1]

    yield make
    for held in made:
        if held.keeper.is_alive():
            held.keeper.stop()


def test_each_renewal_is_told_to_the_process_a_margin_before_the_lease_ends(hold: Callable[..., Held]) -> None:
    held = hold()
    held.watch()
    first, lease, began = held.keeper.until, held.lease(), lease_clock()
    assert held.process.told == [first]  # at once: it may have been started long after the claim
    held.keeper.start()
    held.until(lambda: len(held.process.told) >= 3)
    held.keeper.stop()
    assert not held.keeper.is_alive()
    told, ended = held.process.told[1:], lease_clock()
    assert told == sorted(set(told))
    assert held.keeper.until == told[-1]
    assert held.lease() > lease
    assert all(began + 300 * (1 - MARGIN) <= until <= ended + 300 * (1 - MARGIN) for until in told)
    assert held.keeper.standing is Standing.HELD


def test_a_claim_that_another_has_is_not_kept(hold: Callable[..., Held]) -> None:
    held = hold()
    held.watch()
    with unit_of_work(held.sessions) as session:
        claims.renew(session, held.claim, lease_seconds=-1)
        claims.rescue(session, held.claim.stage_id, problem=PROBLEM, max_attempts=3)
        assert claims.claim(session, held.claim.stage_id, worker="another", lease_seconds=30) is not None
    lease = held.lease()
    held.keeper.start()
    held.keeper.join(PATIENCE)
    assert not held.keeper.is_alive()
    assert held.keeper.standing is Standing.LOST
    assert len(held.process.told) == 1
    assert held.lease() == lease


@pytest.mark.parametrize("heartbeat", [0.05, 100.0], ids=["by a renewal", "by a look"])
def test_a_cancel_is_seen_and_the_lease_is_kept(
    hold: Callable[..., Held], heartbeat: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.supervision.lease.POLL_SECONDS", 0.02)
    held = hold(heartbeat_seconds=heartbeat)
    with unit_of_work(held.sessions) as session:
        jobs.request_cancel(session, held.claim.job_id)
    held.keeper.start()
    held.until(lambda: held.keeper.standing is Standing.CANCELLING)
    assert held.keeper.is_alive()


def test_a_job_whose_deadline_passes_is_cancelled(hold: Callable[..., Held], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.supervision.lease.POLL_SECONDS", 0.02)
    held = hold(heartbeat_seconds=100.0)
    with unit_of_work(held.sessions) as session:
        passed = func.now() - timedelta(seconds=1)
        session.execute(update(Job).where(Job.id == held.claim.job_id).values(deadline_at=passed))
    held.keeper.start()
    held.until(lambda: held.keeper.standing is Standing.CANCELLING)
    assert held.job().state is State.CANCELLING


def test_a_database_that_is_away_is_waited_for(hold: Callable[..., Held], monkeypatch: pytest.MonkeyPatch) -> None:
    held = hold()
    held.watch()
    renew, failed = claims.renew, threading.Event()

    def broken(*arguments: Any, **more: Any) -> Standing:
        if not failed.is_set():
            failed.set()
            raise OperationalError("UPDATE", {}, Exception("the server is away"))
        return renew(*arguments, **more)

    monkeypatch.setattr(claims, "renew", broken)
    held.keeper.start()
    held.until(lambda: len(held.process.told) >= 2)
    assert failed.is_set()
    assert held.keeper.standing is Standing.HELD


def test_nobody_is_told_where_there_is_no_process(hold: Callable[..., Held]) -> None:
    held = hold()
    first = held.keeper.until
    held.watch()
    held.keeper.watch(None)
    held.keeper.start()
    held.until(lambda: held.keeper.until > first - 300 * MARGIN and held.keeper.until != first)
    assert held.process.told == [first]


def test_the_first_lease_ends_a_margin_early_too() -> None:
    settings = Settings(lease_seconds=20)
    assert LeaseKeeper.first_until(settings, 100.0) == pytest.approx(100 + 20 * 0.9)
