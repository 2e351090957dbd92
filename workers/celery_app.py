"""The worker: `celery -A workers.celery_app worker`.

It binds the tasks to `app.broker.queue`, and to the worker's life: the fork server begins to import before the first
stage comes, messages are taken once the device has been tried out, the janitor starts when the worker is ready, and a
shutdown stops the stages and puts them back into the queue instead of waiting hours for them. Its pool is the one with
threads (set in `app.broker.queue`): each thread waits for one stage process, and time limits and kills are the
supervisor's.
"""

from __future__ import annotations

import signal
import sys
from functools import lru_cache, partial
from types import FrameType
from typing import Any

from celery import Celery, bootsteps, signals
from celery.worker.control import inspect_command

from app import tracing
from app.blobs.store import ArtifactStore, open_store
from app.broker.messages import RUN_STAGE
from app.broker.queue import TELL_DEVICE, depth, get_celery
from app.broker.sender import send_stage
from app.db.session import SessionFactory, session_factory
from app.logs import set_up
from app.settings import get_settings
from secateur.contract.errors import ServiceError
from workers.launch.device import ProbedDevice
from workers.launch.fork_server import ForkServer
from workers.supervision.celery_log_lines import name_stage
from workers.supervision.janitor import Janitor
from workers.supervision.message_intake import Messages
from workers.supervision.presence import Presence
from workers.supervision.supervisor import Supervisor
from workers.supervision.worker_metrics import WorkerMetrics
from workers.tasks import make_run_stage

app: Celery = get_celery()


messages = Messages(app)
metrics = WorkerMetrics()


@lru_cache(maxsize=1)
def sessions() -> SessionFactory:
    """Two connections for each slot (the events, and the lease), and some for the janitor."""
    settings = get_settings()
    return session_factory(settings, pool_size=2 * settings.concurrency + 3)


@lru_cache(maxsize=1)
def store() -> ArtifactStore:
    return open_store(get_settings().store_url)


@lru_cache(maxsize=1)
def forkserver() -> ForkServer:
    settings = get_settings()
    return ForkServer(
        settings.stage_entry, settings.stage_preload, log_level=settings.log_level, log_format=settings.log_format
    )


@lru_cache(maxsize=1)
def device() -> ProbedDevice:
    return ProbedDevice(get_settings(), forkserver(), on_change=_device_changed)


def _device_changed(works: bool) -> None:
    """Messages are taken or left, and those who look at the workers see it at once."""
    messages.take(works)
    presence().beat()


@lru_cache(maxsize=1)
def supervisor() -> Supervisor:
    send = partial(send_stage, celery=app)
    return Supervisor(get_settings(), sessions(), store(), forkserver(), device(), send=send, metrics=metrics)


@lru_cache(maxsize=1)
def presence() -> Presence:
    return Presence(get_settings(), sessions(), device())


@lru_cache(maxsize=1)
def janitor() -> Janitor:
    send = partial(send_stage, celery=app)
    return Janitor(get_settings(), sessions(), store(), send=send, depth=partial(depth, celery=app), metrics=metrics)


def _set_up_logging(**_: Any) -> None:
    """In Celery's place: one line for each record, to standard error, with passwords and tokens hidden."""
    settings = get_settings()
    set_up(
        settings.log_level,
        form=settings.log_format,
        secrets=settings.secrets,
        urls=settings.urls,
        more=[name_stage],
    )


def _begin(sender: Any = None, **_: Any) -> None:
    pool = getattr(getattr(sender, "pool_cls", None), "__module__", "")
    if pool not in {"celery.concurrency.thread", "celery.concurrency.solo"}:
        sys.exit(f"the worker's pool is {pool}; stages need --pool threads, which is the default here")
    _trace(get_settings().otlp_endpoint)
    _show_metrics(get_settings().metrics_address)
    messages.refuse()
    forkserver().warm()


def _trace(endpoint: str | None) -> None:
    """Spans of messages, by Celery's own instrumentation, and of what they set off."""
    try:
        tracing.start(endpoint, service="secateur-worker")
    except ServiceError as error:
        sys.exit(f"error: {error.detail}")
    if endpoint is not None:
        from opentelemetry.instrumentation.celery import CeleryInstrumentor

        CeleryInstrumentor().instrument()  # type: ignore[no-untyped-call]  # its constructor has no types


def _show_metrics(address: str | None) -> None:
    """Figures for Prometheus, for as long as the process lives."""
    if address is None:
        return
    slots = get_settings().concurrency
    try:
        metrics.serve(address, slots=slots, device_works=lambda: device().working is not None)
    except OSError as error:
        sys.exit(f"error: SECATEUR_METRICS_ADDRESS: nothing can be shown at {address}: {error.strerror or error}")


def _ready(sender: Any, **_: Any) -> None:
    messages.consumer = sender
    device().start()
    presence().start()
    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT):
        _stop_stages_on(number)
    janitor().start()


def _stop_stages_on(number: signal.Signals) -> None:
    """Before Celery's own handler, which for SIGQUIT waits until the tasks have ended or a limit is over."""
    celerys = signal.getsignal(number)

    def handle(received: int, frame: FrameType | None) -> None:
        _stop_stages()
        if callable(celerys):
            celerys(received, frame)

    signal.signal(number, handle)


def _stop_stages() -> None:
    supervisor().stop()
    device().stop()
    presence().stop()
    janitor().stop()


@inspect_command(name=TELL_DEVICE)  # type: ignore[untyped-decorator]  # Celery has no types
def _tell_device(state: Any, **_: Any) -> dict[str, str | None]:
    """What `secateur up` asks: whether this worker takes stages."""
    return {"problem": device().problem}


class StopStages(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """However else the worker is told to stop: before the pool waits for its tasks."""

    requires = ("celery.worker.components:Pool",)

    def stop(self, worker: Any) -> None:
        _stop_stages()


def _shut_down(**_: Any) -> None:
    forkserver().stop()


signals.setup_logging.connect(_set_up_logging)
signals.worker_init.connect(_begin)
signals.worker_ready.connect(_ready)
signals.worker_shutdown.connect(_shut_down)
app.steps["worker"].add(StopStages)
app.task(name=RUN_STAGE)(make_run_stage(supervisor))
