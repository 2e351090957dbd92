"""Sending: best effort, with a short time-out, and never an error of the one who sends."""

from __future__ import annotations

import json
import os
import signal
import time
from uuid import uuid4

import redis

from app.broker.messages import QUEUE, RUN_STAGE, stage_of
from app.broker.queue import depth, make_celery
from app.broker.sender import send_stage, send_stages
from app.settings import Settings
from tests.fixtures.servers import TestServers


def test_a_message_names_the_task_and_the_stage(redis_url: str) -> None:
    celery, stage_id = make_celery(Settings(redis_url=redis_url)), uuid4()
    assert depth(celery=celery) == 0
    assert send_stage(stage_id, celery=celery)
    assert depth(celery=celery) == 1
    with redis.Redis.from_url(redis_url) as client:
        message = json.loads(client.lpop(QUEUE))
    assert message["headers"]["task"] == RUN_STAGE
    assert str(stage_id) in message["headers"]["argsrepr"]
    assert message["content-type"] == "application/json"


def test_messages_go_together(redis_url: str) -> None:
    celery, stage_ids = make_celery(Settings(redis_url=redis_url)), [uuid4() for _ in range(3)]
    assert send_stages(stage_ids, celery=celery)
    with redis.Redis.from_url(redis_url) as client:
        assert [stage_of(client.rpop(QUEUE)) for _ in stage_ids] == stage_ids
        assert client.llen(QUEUE) == 0


def test_a_broker_that_is_down_costs_neither_an_error_nor_much_time(redis_url: str, servers: TestServers) -> None:
    celery = make_celery(Settings(redis_url=redis_url))
    assert send_stage(uuid4(), celery=celery)
    servers.valkey.kill()
    try:
        assert not send_stage(uuid4(), celery=celery)
        assert depth(celery=celery) is None
    finally:
        servers.valkey.start()
    assert send_stage(uuid4(), celery=celery)  # the same instance finds it again


def test_a_broker_that_does_not_answer_is_not_waited_for(redis_url: str, servers: TestServers) -> None:
    celery = make_celery(Settings(redis_url=redis_url))
    pid = servers.valkey.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    begun = time.monotonic()
    try:
        assert not send_stage(uuid4(), celery=celery)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert time.monotonic() - begun < 30  # not the minutes of a TCP time-out
