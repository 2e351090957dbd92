"""The Celery instance. A message is a hint to wake up: it names a stage that waits, and Postgres has the truth.

The worker that it wakes takes the stage whose turn it is, which may be another one (`app.db.stages.next_waiting`): what
counts is that there are as many messages as stages that wait, and not which one comes first.

So nothing is lost with the broker but a little time. Sending (`app/broker/sender.py`) is best effort with a short
time-out, always after the commit of the row; what nobody claimed is sent again by the janitor. A message too many finds
no stage and does nothing. Hence the settings:

- A message is taken out of Redis by the worker that gets it, for good: see `app/broker/redis_transport.py`. There is no
  redelivery after a time-out, which would run long stages twice; a dead worker is noticed by the lease of its stage.
- Celery counts a message as open until its task has ended (`acks_late`), and fetches one for each free slot (prefetch
  1), so that no message waits behind a stage that runs for hours. There is no result backend.
- A lost connection to the broker does not end a running task.
- No connection is kept for the next question to the workers (`idle_workers`): it would fail once after each restart of
  the broker. kombu's pool belongs to the whole process and does not try its connections out.
- Bodies are JSON and nothing else, and what is no message of this service is set aside: see `app/broker/messages.py`.
"""

from __future__ import annotations

from functools import lru_cache

from celery import Celery
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from app.broker import redis_transport
from app.broker.messages import QUEUE
from app.settings import Settings, get_settings
from secateur.contract.errors import Unavailable

TELL_DEVICE = "secateur_device"  # what a worker answers with the problem of its device, or None
SEND_TIMEOUT_SECONDS = 2.0
BROKER_ERRORS = (KombuError, RedisError, OSError)  # Redis's own come through where kombu reads from it itself


def make_celery(settings: Settings) -> Celery:
    """The Celery instance for these settings. Raises Unavailable if no broker is configured."""
    if settings.redis_url is None:
        raise Unavailable(
            "no broker is configured: set SECATEUR_REDIS_URL to redis://…, "
            "or run `secateur up`, which starts a private one"
        )
    redis_transport.register()
    app = Celery("secateur", broker=settings.redis_url, set_as_current=False)
    app.conf.update(
        task_default_queue=QUEUE,
        task_serializer="json",
        accept_content=["json"],
        task_acks_late=True,
        task_reject_on_worker_lost=False,  # it can loop; the lease brings the stage back
        task_ignore_result=True,
        result_backend=None,
        task_publish_retry=False,  # sending is best effort, see above
        broker_pool_limit=0,  # see above
        broker_connection_timeout=SEND_TIMEOUT_SECONDS,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # a worker waits for its broker for as long as it takes
        broker_transport_options={
            "socket_timeout": 3.0,
            "socket_connect_timeout": SEND_TIMEOUT_SECONDS,
            "socket_keepalive": True,
        },
        # the worker's side
        worker_pool="threads",
        worker_concurrency=settings.concurrency,
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_soft_shutdown_timeout=settings.cancel_grace_seconds + 5.0,  # after SIGQUIT: time to put stages back
        worker_enable_remote_control=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_send_task_events=False,
    )
    return app


@lru_cache(maxsize=1)
def get_celery() -> Celery:
    """The process's Celery instance, made once from its settings."""
    return make_celery(get_settings())


def depth(*, celery: Celery | None = None) -> int | None:
    """How many messages wait for a worker; None if the broker does not answer."""
    app = celery or get_celery()
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=SEND_TIMEOUT_SECONDS)
            return int(connection.default_channel.client.llen(QUEUE))
    except BROKER_ERRORS:
        return None


def idle_workers(*, celery: Celery | None = None, patience: float = 1.0) -> list[str]:
    """Why those workers take no stages that do not, since their device does not work; a line for each.

    Those that do not answer within `patience` seconds, and those that have not tried their device out yet, are not
    among them; nor is any where the broker does not answer.
    """
    app = celery or get_celery()
    try:
        answers = app.control.broadcast(TELL_DEVICE, reply=True, timeout=patience)
    except BROKER_ERRORS:
        return []
    told = [answer for answers_of in answers or [] for answer in answers_of.values()]
    return [answer["problem"] for answer in told if isinstance(answer, dict) and answer.get("problem")]
