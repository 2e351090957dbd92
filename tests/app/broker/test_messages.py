"""What is no message of this service is told from what is one, from its bytes."""

from __future__ import annotations

import base64
import json
from typing import Any
from uuid import UUID

import pytest
import redis

from app.broker.messages import LONGEST, QUEUE, BadMessage, check_control, stage_of, wake_up
from app.broker.queue import make_celery
from app.broker.sender import send_stage
from app.settings import Settings

STAGE = UUID("019ad000-0000-7000-8000-000000000001")


def changed(path: str, value: Any) -> bytes:
    """A good message with one thing changed; `body` is given decoded."""
    message: dict[str, Any] = json.loads(wake_up(STAGE))
    *folders, name = path.split("/")
    place = message
    for folder in folders:
        place = place[folder]
    place[name] = base64.b64encode(json.dumps(value).encode()).decode() if path == "body" else value
    return json.dumps(message).encode()


def body(arguments: Any, named: Any = None) -> bytes:
    return changed("body", [arguments, named or {}, {}])


BAD = {
    "no JSON": (b"not json", "it is not JSON"),
    "no text": (b"\xff\xfe\x00", "it is not JSON"),
    "empty": (b"", "it is not JSON"),
    "deep": (b"[" * 60_000, "it is not JSON"),
    "list": (b"[]", "not a JSON object"),
    "null": (b"null", "not a JSON object"),
    "object": (b"{}", "no properties"),
    "huge": (b'{"a": "' + b"x" * 2_000_000 + b'"}', f"at most {LONGEST}"),
    "no tag": (changed("properties", {}), "delivery_tag"),
    "tag": (changed("properties/delivery_tag", 7), "delivery_tag"),
    "delivery": (changed("properties/delivery_info", 7), "delivery_info"),
    "no headers": (changed("headers", None), "headers"),
    "pickle": (changed("content-type", "application/x-python-serialize"), "only JSON"),
    "encoding": (changed("content-encoding", "binary"), "only JSON"),
    "plain body": (changed("properties/body_encoding", None), "base64"),
    "hex body": (changed("properties/body_encoding", "hex"), "base64"),
    "other task": (changed("headers/task", "celery.backend_cleanup"), "celery.backend_cleanup"),
    "no task": (changed("headers", {}), "its task is 'None'"),
    "body": (changed("body", {"args": []}), "list"),
    "no argument": (body([]), "one stage's id"),
    "two arguments": (body([str(STAGE), 1]), "one stage's id"),
    "a number": (body([7]), "one stage's id"),
    "no id": (body(["../../etc"]), "not a stage's id"),
    "named": (body([str(STAGE)], {"more": 1}), "one stage's id"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_message_is_told(name: str) -> None:
    raw, reason = BAD[name]
    with pytest.raises(BadMessage, match=reason):
        stage_of(raw)


def test_what_this_version_sends_is_read(redis_url: str) -> None:
    assert send_stage(STAGE, celery=make_celery(Settings(redis_url=redis_url)))
    with redis.Redis.from_url(redis_url) as client:
        raw = client.lpop(QUEUE)
    assert isinstance(raw, bytes)
    assert stage_of(raw) == STAGE
    check_control(raw)


def test_a_message_that_is_made_is_one() -> None:
    assert stage_of(wake_up(STAGE)) == STAGE


def test_nothing_but_the_stage_is_taken_over() -> None:
    raw = changed("headers", {"task": "secateur.run_stage", "eta": "9999-01-01T00:00:00", "id": 7, "timelimit": "x"})
    assert stage_of(raw) == STAGE
    assert json.loads(wake_up(stage_of(raw)))["headers"]["eta"] is None
