"""A worker's row: there while it lives, and with what it has."""

from __future__ import annotations

from sqlalchemy import create_engine

from app.db import workers
from app.db.session import make_session_factory, unit_of_work
from tests.fixtures.service import Service
from workers.launch.device import SoundDevice
from workers.supervision.presence import Presence, worker_name


def test_it_comes_with_the_worker_and_goes_with_it(service: Service) -> None:
    presence = Presence(service.settings, service.sessions, SoundDevice())
    presence.start()

    def seen() -> list[str]:
        with unit_of_work(service.sessions) as session:
            return [worker.name for worker in workers.taking(session)]

    service.until(lambda: seen() == [worker_name()])
    with unit_of_work(service.sessions) as session:
        ((row, up),) = workers.all_of(session)
        assert (row.id, up, row.device, row.slots) == (presence.id, True, "cpu", service.settings.concurrency)
        assert row.stage_memory > 10**8
    presence.stop()
    presence.join(30)
    assert seen() == []


def test_a_database_that_is_away_ends_nothing(service: Service) -> None:
    away = make_session_factory(create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none"))
    Presence(service.settings, away, SoundDevice()).beat()  # it is told in the log


def test_a_workers_claims_begin_with_its_name(service: Service) -> None:
    service.worker()
    job_id = service.submit(score="sleep:3")
    service.until(lambda: service.job(job_id).stages[1].worker is not None)
    with unit_of_work(service.sessions) as session:
        names = {worker.name for worker, _ in workers.all_of(session)}
    claimed = service.job(job_id).stages[1].worker
    assert claimed is not None
    assert claimed.split("#")[0] in names
