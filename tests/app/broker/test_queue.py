"""The broker as it is asked: who waits, who does not answer, and what is missing."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.broker.queue import idle_workers, make_celery
from app.settings import Settings
from secateur.contract.errors import Unavailable
from tests.fixtures.servers import TestServers


def test_a_broker_that_goes_while_workers_are_asked_is_no_error(redis_url: str, servers: TestServers) -> None:
    celery = make_celery(Settings(redis_url=redis_url))
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(idle_workers, celery=celery, patience=5.0)
        time.sleep(1.0)
        servers.valkey.kill()
        try:
            assert asked.result(60) == []
        finally:
            servers.valkey.start()


def test_without_a_broker_it_says_what_to_set() -> None:
    with pytest.raises(Unavailable, match="SECATEUR_REDIS_URL"):
        make_celery(Settings(redis_url=None))


def test_a_restart_of_the_broker_is_not_noticed_by_the_next_question(servers: TestServers, redis_url: str) -> None:
    celery = make_celery(Settings(redis_url=redis_url))
    assert celery.control.ping(timeout=0.1) == []
    servers.valkey.kill()
    servers.valkey.start()
    assert celery.control.ping(timeout=0.1) == []
