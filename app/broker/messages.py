"""The one kind of message in the queue: it names a stage. All else that comes is told from it here, before Celery.

Anybody who can reach the broker can put anything into the queue: another program that uses the same list, an old
version, a person by hand. Celery and kombu take much of that for granted, and a worker ends where it does not hold. So
a message is read here from its bytes up, with a bound on its length; only the stage's id is taken out of it, and Celery
is handed a message that was made here. Nothing that a stranger wrote into headers (a time to wait for, callbacks, an
expiry, another serialiser) reaches it.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any
from uuid import UUID, uuid4

from secateur.contract.shown import shortened

QUEUE = "secateur"
REJECTED = "secateur.rejected"  # a list: the last messages that were set aside, for whoever looks for their sender
RUN_STAGE = "secateur.run_stage"
LONGEST = 65_536  # bytes; a message has under one thousand


class BadMessage(ValueError):
    """What came is no message of this service; the text says why."""


def stage_of(raw: bytes) -> UUID:
    """The stage that a message in the queue names. Raises BadMessage."""
    envelope, body = _opened(raw)
    task = envelope["headers"].get("task")
    if task != RUN_STAGE:
        raise BadMessage(f"its task is {shortened(str(task))!r}, and there is only {RUN_STAGE!r}")
    if not isinstance(body, list) or len(body) != 3:
        raise BadMessage("its body is not the list [args, kwargs, embed]")
    arguments, named, _ = body
    if not isinstance(arguments, list) or len(arguments) != 1 or not isinstance(arguments[0], str) or named != {}:
        raise BadMessage("its arguments are not one stage's id")
    try:
        return UUID(arguments[0])
    except ValueError:
        raise BadMessage(f"its argument {shortened(arguments[0])!r} is not a stage's id") from None


def check_control(raw: bytes) -> None:
    """Raises BadMessage where a message of Celery's own remote control, or a reply to one, cannot be opened."""
    _opened(raw)


def wake_up(stage_id: UUID) -> bytes:
    """A message that names this stage, as Celery's second protocol has it."""
    number = str(uuid4())
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    headers = {
        "lang": "py",
        "task": RUN_STAGE,
        "id": number,
        "root_id": number,
        "parent_id": None,
        "group": None,
        "retries": 0,
        "eta": None,
        "expires": None,
        "timelimit": [None, None],
        "argsrepr": repr((str(stage_id),)),
        "kwargsrepr": "{}",
        "ignore_result": True,
    }
    properties = {
        "correlation_id": number,
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": QUEUE},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": str(uuid4()),
    }
    return json.dumps(
        {
            "body": base64.b64encode(json.dumps([[str(stage_id)], {}, embed]).encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": headers,
            "properties": properties,
        }
    ).encode()


def _opened(raw: bytes) -> tuple[dict[str, Any], Any]:
    """The envelope and the decoded body."""
    if len(raw) > LONGEST:
        raise BadMessage(f"it has {len(raw)} bytes; a message has at most {LONGEST}")
    envelope = _json(raw, "it")
    if not isinstance(envelope, dict):
        raise BadMessage("it is not a JSON object")
    properties = envelope.get("properties")
    if not isinstance(properties, dict) or not isinstance(properties.get("delivery_tag"), str):
        raise BadMessage("it has no properties with a delivery_tag")
    if not isinstance(properties.get("delivery_info", {}), dict) or not isinstance(envelope.get("headers"), dict):
        raise BadMessage("its headers or its delivery_info are not objects")
    if (envelope.get("content-type"), envelope.get("content-encoding")) != ("application/json", "utf-8"):
        raise BadMessage(f"its content is {shortened(str(envelope.get('content-type')))!r}; only JSON in UTF-8 is read")
    body = envelope.get("body")
    if not isinstance(body, str) or properties.get("body_encoding") != "base64":
        raise BadMessage("its body is not in base64")
    try:
        decoded = base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise BadMessage("its body is not in base64") from None
    return envelope, _json(decoded, "its body")


def _json(raw: bytes, what: str) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise BadMessage(f"{what} is not JSON") from None
