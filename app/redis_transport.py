"""kombu's Redis transport without acknowledgements: a message is gone from Redis once a worker has it.

kombu keeps delivered messages aside until they are acknowledged, and puts them back when a channel closes or when a
"visibility timeout" has passed. Nothing here hangs on that: a message is a hint, a dead worker is noticed by its lease,
and the janitor sends a message for every stage that waits unclaimed. And it does harm. With stages that run for hours,
the timeout would have to be longer than any of them, or they are delivered twice. And in kombu 5.7, a connection that
is lost while a stage runs makes the channel put messages back, or acknowledge them, through a connection that is gone,
which ends the whole worker with an AttributeError ("Unrecoverable error"). So both are turned off.
"""

from __future__ import annotations

from kombu.transport import TRANSPORT_ALIASES, redis

SCHEMES = ("redis", "rediss")


class Channel(redis.Channel):
    ack_emulation = False  # no copy is kept in Redis, and no visibility timeout exists
    do_restore = False  # nothing is put back when the channel closes


class Transport(redis.Transport):
    Channel = Channel


def register() -> None:
    """Use it for the URLs of Redis in this process. Doing so again changes nothing."""
    for scheme in SCHEMES:
        TRANSPORT_ALIASES[scheme] = f"{__name__}:Transport"
