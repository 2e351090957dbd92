"""Celery's lines about a message name its stage."""

from __future__ import annotations

import logging
from typing import Any
from uuid import uuid4

import pytest

from app.broker.messages import RUN_STAGE
from workers.supervision.celery_log_lines import name_stage

STAGE = str(uuid4())
MESSAGE = {"id": str(uuid4()), "name": RUN_STAGE, "args": f"('{STAGE}',)", "kwargs": "{}"}


def named(data: object, **bound: str) -> Any:
    record = logging.LogRecord("celery.app.trace", logging.INFO, "", 0, "Task received", (), None)
    record.__dict__["data"] = data
    return name_stage(None, "info", {"_record": record, **bound}).get("stage_id")


def test_a_message_names_its_stage() -> None:
    assert named(MESSAGE) == STAGE


def test_the_stage_that_was_run_goes_first() -> None:
    assert named(MESSAGE, stage_id="another") == "another"


@pytest.mark.parametrize("data", [None, "data", {}, {**MESSAGE, "name": "other"}, {**MESSAGE, "args": "..."}])
def test_other_records_are_left_alone(data: object) -> None:
    assert named(data) is None
