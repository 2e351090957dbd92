"""A worker that is sent anything at all goes on: bad messages are set aside with a line in its log."""

from __future__ import annotations

import json

import pytest
import redis

from app.broker.messages import QUEUE, REJECTED, wake_up
from app.broker.queue import make_celery
from tests.app.broker.test_messages import BAD, changed
from tests.fixtures.service import PATIENCE, Service

CONTROL = "/0.celery.pidbox"  # where Celery's remote control is published


@pytest.mark.thorough
def test_whatever_comes_the_worker_goes_on(service: Service) -> None:
    worker = service.worker(lease_seconds="20")
    raws = [raw for raw, _ in BAD.values()]
    with redis.Redis.from_url(service.settings.redis_url or "") as client:
        for raw in raws:
            client.lpush(QUEUE, raw)
            client.lpush(f"{QUEUE}\x06\x169", raw)  # the list of another priority
            client.publish(CONTROL, raw)
        controls: list[object] = [[], "x", {"method": 7}, {"method": "ping", "arguments": 3}, {"method": "no such"}]
        for control in controls:
            client.publish(CONTROL, changed("body", control))
        unknown = service.submit(send=False)  # a job's id is no stage's
        client.lpush(QUEUE, wake_up(unknown))
        hostile = service.submit(send=False)
        stage = service.job(hostile).stages[0].id
        message = json.loads(wake_up(stage))
        message["headers"] |= {"eta": "9999-12-31T23:59:59", "expires": "x", "timelimit": "x", "retries": "x"}
        client.lpush(QUEUE, json.dumps(message))

        service.settled(hostile)
        service.settled(service.submit())
        service.until(lambda: client.llen(QUEUE) == 0)
        assert make_celery(service.settings).control.ping(timeout=PATIENCE, limit=1)
        assert worker.process.running
        service.until(lambda: client.llen(REJECTED) == 2 * len(raws))
        assert b"not json" in client.lrange(REJECTED, 0, -1)
    service.until(lambda: worker.log.read_text().count("a message was set aside: ") == 2 * len(raws))
    log = worker.log.read_text()
    assert "Unrecoverable error" not in log
    assert "restarting the consumer" not in log.lower()
