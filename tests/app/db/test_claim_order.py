"""Which stage a worker gets, and that no two workers get the same."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import claims, jobs, stages
from app.db.claims import Claim
from app.db.session import SessionFactory, unit_of_work
from tests.fixtures.job_rows import PROBLEM, finish, insert, spec, take


def test_a_stage_is_claimed_once_and_in_its_turn(session: Session) -> None:
    job = insert(session)
    assert claims.claim(session, job.stages[1].id, worker="w", lease_seconds=30) is None
    first = claims.claim(session, job.stages[0].id, worker="one", lease_seconds=30)
    assert first is not None
    assert claims.claim(session, job.stages[0].id, worker="two", lease_seconds=30) is None
    again = claims.claim(session, job.stages[0].id, worker="one", lease_seconds=30)
    assert again == first  # the same try, whose commit may have been cut
    assert claims.claim(session, UUID(int=1), worker="w", lease_seconds=30) is None


def test_many_workers_race_for_one_stage(sessions: SessionFactory) -> None:
    with unit_of_work(sessions) as session:
        job = insert(session)
    won: list[Claim] = []

    def race(worker: int) -> None:
        with unit_of_work(sessions) as session:
            claim = claims.claim(session, job.stages[0].id, worker=str(worker), lease_seconds=30)
        if claim is not None:
            won.append(claim)

    threads = [threading.Thread(target=race, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(claim.token, claim.attempt) for claim in won] == [(1, 1)]


def test_a_job_that_has_begun_goes_before_one_that_has_not(session: Session) -> None:
    """And an older one before a newer one; each job ends before the next begins where there is one worker."""
    created = [insert(session) for _ in range(3)]
    order: list[object] = []
    while (claim := claims.claim_next(session, worker=f"w{len(order)}", lease_seconds=30)) is not None:
        order.append((claim.job_id, claim.key))
        finish(session, claim)
    assert order == [(job.id, stage.key) for job in created for stage in job.stages]


def test_a_failed_job_that_is_retried_waits_for_those_that_have_begun(session: Session) -> None:
    old = insert(session)
    claims.fail(session, take(session, old), problem=PROBLEM)
    begun = insert(session)
    finish(session, take(session, begun))
    jobs.retry(session, old.id)
    turns = [claims.claim_next(session, worker=str(turn), lease_seconds=30) for turn in range(3)]
    assert [claim and claim.job_id for claim in turns] == [begun.id, old.id, None]


def asked(sessions: SessionFactory, caller: str, priority: int = 0) -> UUID:
    with unit_of_work(sessions) as session:
        made = jobs.insert(session, spec=spec().model_copy(update={"priority": priority}), caller=caller)
    assert made is not None
    return made.id


def order(sessions: SessionFactory, *, workers: int = 1) -> list[UUID]:
    """The jobs of the stages in the order in which so many workers take them; all end theirs when each has one."""
    taken: list[UUID] = []
    while True:
        held = []
        for number in range(workers):
            with unit_of_work(sessions) as session:
                held.append(claims.claim_next(session, worker=f"{len(taken)}-{number}", lease_seconds=30))
        got = [claim for claim in held if claim is not None]
        if not got:
            return taken
        taken += [claim.job_id for claim in got]
        for claim in got:
            with unit_of_work(sessions) as session:
                finish(session, claim)


def begun(taken: list[UUID]) -> list[UUID]:
    """Jobs in the order in which they began."""
    return list(dict.fromkeys(taken))


def test_a_higher_priority_goes_first_and_even_before_what_has_begun(sessions: SessionFactory) -> None:
    low, usual = asked(sessions, "me", -1), asked(sessions, "me")
    with unit_of_work(sessions) as session:
        finish(session, take(session, jobs.get(session, usual)))
    high = asked(sessions, "me", 9)
    taken = order(sessions)
    assert begun(taken) == [high, usual, low]
    assert taken.index(usual) == taken.count(high)


def test_callers_take_turns(sessions: SessionFactory) -> None:
    """With one worker, too, where nothing runs at the moment of choosing."""
    mine = [asked(sessions, "me") for _ in range(4)]
    yours, hers = asked(sessions, "you"), [asked(sessions, "her") for _ in range(2)]
    assert begun(order(sessions)) == [mine[0], yours, hers[0], mine[1], hers[1], *mine[2:]]


def test_workers_are_shared_between_callers(sessions: SessionFactory) -> None:
    mine, yours = [asked(sessions, "me") for _ in range(6)], [asked(sessions, "you") for _ in range(2)]
    assert set(order(sessions, workers=4)[:4]) == {*mine[:2], *yours}


def test_turns_count_within_a_priority(sessions: SessionFactory) -> None:
    mine = [asked(sessions, "me", 5) for _ in range(3)]
    yours = asked(sessions, "you")
    assert begun(order(sessions)) == [*mine, yours]


def test_a_cancelled_job_of_the_highest_priority_is_in_nobodys_way(sessions: SessionFactory) -> None:
    gone, here = asked(sessions, "me", 9), asked(sessions, "you")
    with unit_of_work(sessions) as session:
        jobs.request_cancel(session, gone)
    assert begun(order(sessions)) == [here]


def test_a_claim_whose_commit_was_cut_is_found_again(session: Session) -> None:
    created = [insert(session) for _ in range(2)]
    first = claims.claim_next(session, worker="one", lease_seconds=30)
    assert claims.claim_next(session, worker="one", lease_seconds=30) == first
    second = claims.claim_next(session, worker="two", lease_seconds=30)
    assert [claim and claim.job_id for claim in (first, second)] == [job.id for job in created]


def test_what_cannot_be_claimed_is_not_offered(session: Session) -> None:
    late = jobs.insert(session, spec=spec(), caller="me", deadline_at=datetime.now(UTC) - timedelta(seconds=1))
    jobs.request_cancel(session, insert(session).id)
    assert late is not None
    assert claims.claim_next(session, worker="w", lease_seconds=30) is None


def test_many_workers_take_a_stage_each(sessions: SessionFactory) -> None:
    with unit_of_work(sessions) as session:
        created = [insert(session).id for _ in range(8)]
    taken: list[UUID] = []
    ready = threading.Barrier(12)

    def work(worker: int) -> None:
        ready.wait()
        with unit_of_work(sessions) as session:
            claim = claims.claim_next(session, worker=str(worker), lease_seconds=30)
        if claim is not None:
            taken.append(claim.job_id)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == created


def test_a_job_that_is_only_looked_at_is_waited_for(sessions: SessionFactory) -> None:
    """Whoever holds its row for a moment must not cost a worker its wake-up."""
    with unit_of_work(sessions) as session:
        job_id = insert(session).id
    locked, found = threading.Event(), []

    def look() -> None:
        with unit_of_work(sessions) as session:
            jobs.lock(session, job_id)
            locked.set()
            time.sleep(0.5)

    thread = threading.Thread(target=look)
    thread.start()
    locked.wait()
    with unit_of_work(sessions) as session:
        found.append(claims.claim_next(session, worker="w", lease_seconds=30))
    thread.join()
    assert [claim and claim.job_id for claim in found] == [job_id]


def test_unclaimed_stages_are_taken_once(session: Session) -> None:
    job = insert(session)
    assert stages.take_unclaimed(session, older_than=60) == []
    assert stages.take_unclaimed(session, older_than=0) == [job.stages[0].id]
    assert stages.count_waiting(session) == 1
    take(session, job)
    assert stages.take_unclaimed(session, older_than=0) == []
    assert stages.count_waiting(session) == 0
