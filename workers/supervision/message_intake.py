"""Whether this worker takes messages from the broker: only while its device works.

Celery chooses its queues when it starts; to change that later is meant for its own thread, and has to survive that the
broker goes away and comes back. So the choice is kept where Celery looks when it connects (`queues.consume_from`), and
a consumer that is connected is told besides.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from celery import Celery

from app.broker.messages import QUEUE

logger = logging.getLogger(__name__)


class Messages:
    """The worker's tap; `consumer` is Celery's, once the worker is ready."""

    def __init__(self, celery: Celery) -> None:
        self.consumer: Any = None
        self._celery = celery

    def refuse(self) -> None:
        """Take none when the worker connects."""
        self._celery.amqp.queues.deselect(QUEUE)

    def take(self, wanted: bool) -> None:
        """Take messages from now on, or no more. May be called from any thread."""
        self.consumer.call_soon(partial(self._change, wanted))

    def _change(self, wanted: bool) -> None:
        """In Celery's own thread."""
        change = self.consumer.add_task_queue if wanted else self.consumer.cancel_task_queue
        try:
            change(QUEUE)
        except (AttributeError, *self.consumer.connection_errors) as error:  # not connected: it looks when it connects
            logger.debug("the broker is away (%s); messages are taken from then on: %s", type(error).__name__, wanted)
