"""The HTTP service: `create_app()` puts routers, error handlers and the edge middleware together.

It imports neither torch nor transformers, and starts in under two seconds: the work is done elsewhere.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import FrameType
from uuid import uuid4

from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from app.api import health, openapi
from app.api.example_specs import HUB_WITH_GATES
from app.api.metrics import Metrics
from app.api.resources import routers
from app.deps import celery_for, dispose_pool, sender_for, store_at
from app.http import problems
from app.http.as_meant import refuse_what_is_passed_over
from app.http.hosts import Hosts
from app.http.middleware import EdgeMiddleware
from app.services.event_hub import EventHub
from app.services.readiness import Prober
from app.settings import Settings, get_settings
from app.tracing import of_requests
from app.web import dashboard, docs, llms
from secateur.about import VERSION

FLUSH_SECONDS = 3.0  # for messages that are on their way when the process is told to stop
MOST_STREAMS = 1000  # unless whoever serves the application has fewer connections
PING_SECONDS = 15.0  # between comments on a quiet event stream; proxies cut what is silent for a minute


def create_app(settings: Settings | None = None, *, most_streams: int = MOST_STREAMS) -> FastAPI:
    """The application for these settings, or for those of the environment.

    Args:
        most_streams: of events, that may be open at a time.
    """
    settings = settings or get_settings()
    app = FastAPI(
        title="Secateur",
        version=VERSION,
        docs_url=None,  # served from vendored files below
        redoc_url=None,
        generate_unique_id_function=_operation_id,
        lifespan=_lifespan,
        telemetry=of_requests(on=settings.otlp_endpoint is not None),
    )
    app.state.settings = settings
    app.state.instance = settings.instance or uuid4().hex
    app.state.event_hub = EventHub(settings.database_url, most=most_streams)
    app.state.ping_seconds = PING_SECONDS
    app.state.metrics = Metrics(settings)
    app.state.prober = Prober(settings, celery=lambda: celery_for(settings), store=lambda: store_at(settings.store_url))
    app.add_middleware(
        EdgeMiddleware,
        hosts=Hosts(settings),
        max_body_bytes=settings.max_body_bytes,
        max_dataset_bytes=settings.max_dataset_bytes,
        observe=app.state.metrics.observe_request,
    )
    problems.register(app)
    for router in routers():
        watched = health.TAG.name in router.tags  # what watches a service may add to its queries what it likes
        app.include_router(router, dependencies=[] if watched else [Depends(refuse_what_is_passed_over)])
    docs.mount(app)
    llms.mount(app, example=HUB_WITH_GATES)
    dashboard.mount(app)
    openapi.install(app)
    return app


def _operation_id(route: APIRoute) -> str:
    """The function's name: it stays while paths and summaries change."""
    return route.name


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    with _streams_end_on_signals(app.state.event_hub):
        yield
    await app.state.event_hub.close()
    app.state.prober.close()
    await run_in_threadpool(sender_for(app.state.settings).stop, seconds=FLUSH_SECONDS)
    dispose_pool(app.state.settings)


@contextmanager
def _streams_end_on_signals(hub: EventHub) -> Iterator[None]:
    """End event streams when the server is told to stop: it waits for responses that would never end.

    The server's own handlers stand by now, and are called afterwards.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals cannot be handled here; whoever runs the server in a thread ends the streams
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def end(number: int, frame: FrameType | None) -> None:
        hub.end_streams()
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    handled = [number for number, handler in before.items() if callable(handler)]
    for number in handled:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in handled:
            if signal.getsignal(number) is end:
                signal.signal(number, before[number])
