"""kombu's Redis transport without acknowledgements: a message is gone from Redis once a worker has it.

kombu keeps delivered messages aside until they are acknowledged, and puts them back when a channel closes or when a
"visibility timeout" has passed. Nothing here hangs on that: a message is a hint, a dead worker is noticed by its lease,
and the janitor sends a message for every stage that waits unclaimed. And it does harm. With stages that run for hours,
the timeout would have to be longer than any of them, or they are delivered twice. And in kombu 5.7, a connection that
is lost while a stage runs makes the channel put messages back, or acknowledge them, through a connection that is gone,
which ends the whole worker with an AttributeError ("Unrecoverable error"). So both are turned off.

kombu also takes for granted that what it reads was written by it: one item in the list that is not JSON ends a worker.
So each reply of Redis is looked at before kombu sees it; see `app/broker/messages.py`.
"""

from __future__ import annotations

import logging
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis
from redis.exceptions import RedisError

from app.broker import messages

SCHEMES = ("redis", "rediss")
KEPT = 100  # messages that were set aside

logger = logging.getLogger(__name__)


class Channel(redis.Channel):
    ack_emulation = False  # no copy is kept in Redis, and no visibility timeout exists
    do_restore = False  # nothing is put back when the channel closes

    def _create_client(self, asynchronous: bool = False) -> Any:
        client = super()._create_client(asynchronous=asynchronous)  # type: ignore[no-untyped-call]  # kombu's
        if asynchronous:  # the one that waits for messages
            client.set_response_callback("BRPOP", self._popped)
        return client

    def _popped(self, reply: Any, **_: Any) -> tuple[bytes, bytes] | None:
        """The list and the message; None, as if the wait had been in vain, where it is no message of this service."""
        if not reply:
            return None
        name, raw = bytes(reply[0]), bytes(reply[1])
        try:
            if name.decode("utf-8", "replace").rsplit(self.sep, 1)[0] == messages.QUEUE:
                return name, messages.wake_up(messages.stage_of(raw))
            messages.check_control(raw)
        except messages.BadMessage as error:
            self._set_aside(raw, str(error))
            return None
        return name, raw

    def _handle_message(self, client: Any, r: Any) -> Any:
        """What was published to all workers; without its data, which kombu then passes over, where it is no message."""
        payload = super()._handle_message(client, r)  # type: ignore[no-untyped-call]
        if isinstance(payload["data"], bytes) and bytes(payload["type"]).endswith(b"message"):
            try:
                messages.check_control(payload["data"])
            except messages.BadMessage as error:
                logger.error("what was published to the workers was set aside: %s", error)
                payload["data"] = None
        return payload

    def _set_aside(self, raw: bytes, reason: str) -> None:
        logger.error(
            "a message was set aside: %s; it begins %r, and the list %s keeps it", reason, raw[:80], messages.REJECTED
        )
        try:
            with self.conn_or_acquire() as client, client.pipeline() as pipeline:
                pipeline.lpush(messages.REJECTED, raw[: messages.LONGEST])
                pipeline.ltrim(messages.REJECTED, 0, KEPT - 1)
                pipeline.execute()
        except RedisError as error:
            logger.warning("the message could not be kept (%s)", type(error).__name__)


class Transport(redis.Transport):
    Channel = Channel


def register() -> None:
    """Use it for the URLs of Redis in this process. Doing so again changes nothing."""
    for scheme in SCHEMES:
        TRANSPORT_ALIASES[scheme] = f"{__name__}:Transport"
