"""Sends the messages that wake workers up. Behind a request's back it is done by `app/broker/background_sender.py`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import Any
from uuid import UUID

from celery import Celery

from app.broker.messages import QUEUE, wake_up
from app.broker.queue import BROKER_ERRORS, get_celery

logger = logging.getLogger(__name__)


def send_stage(stage_id: UUID, *, celery: Celery | None = None) -> bool:
    """Wake a worker for this stage; call it after commit. False if the broker did not take the message."""
    return send_stages([stage_id], celery=celery)


def send_stages(stage_ids: Sequence[UUID], *, celery: Celery | None = None) -> bool:
    """Wake workers for these stages, in one trip to the broker; call it after commit. False if it took no message.

    It never raises for a broker that is down: the stages are committed, and the janitor sends them again.
    """
    app = celery or get_celery()
    try:
        _connection(app).default_channel.client.lpush(QUEUE, *map(wake_up, stage_ids))
    except BROKER_ERRORS as error:
        names = ", ".join(map(str, stage_ids[:3])) + (" …" if len(stage_ids) > 3 else "")
        logger.warning("the broker took no message for stage %s (%s); it will be sent again", names, error)
        return False
    return True


@lru_cache(maxsize=4)
def _connection(app: Celery) -> Any:
    """The connection that this process sends on; its client reconnects by itself, and serves all threads."""
    return app.connection_for_write()
