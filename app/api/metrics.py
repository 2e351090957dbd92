"""Figures for Prometheus: requests as they pass, jobs and stages as the database has them at each scrape."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import cast

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from app.api import examples
from app.api.health import TAG
from app.api.responses import UNAUTHORIZED, problems
from app.db import jobs, stages
from app.db.session import session_factory, unit_of_work, what_broke
from app.db.threads import POOL_SIZE
from app.deps import Caller, celery_for
from app.settings import Settings
from secateur.about import VERSION
from secateur.contract.errors import ServiceError

logger = logging.getLogger("app.metrics")

router = APIRouter(tags=[TAG.name])

LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The registry of one application, so that two in a process do not share their counts."""

    def __init__(self, settings: Settings) -> None:
        self.registry = CollectorRegistry()
        self._latency = Histogram(
            "secateur_http_request_seconds",
            "Seconds from a request to the start of its response.",
            ["method", "route", "status"],
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        build = Gauge("secateur_build_info", "The version that runs.", ["version"], registry=self.registry)
        build.labels(VERSION).set(1)
        self.registry.register(_Database(settings))

    def observe_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request; `route` is the template, so that ids do not make series."""
        self._latency.labels(method if method in _METHODS else "other", route, str(status)).observe(seconds)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class _Database(Collector):
    """Asks Postgres and the broker at each scrape: they are the truth, for all API processes alike."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def describe(self) -> Iterator[Metric]:
        """Nothing: registering must not ask the database."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("secateur_up", "Whether what the service needs answers.", labels=["part"])
        try:
            with unit_of_work(session_factory(self._settings, pool_size=POOL_SIZE)) as session:
                by_state = jobs.count_by_state(session)
                waiting = stages.count_waiting(session)
        except (SQLAlchemyError, ServiceError) as error:
            logger.warning("metrics: %s", what_broke(error) if isinstance(error, SQLAlchemyError) else error.detail)
            up.add_metric(["database"], 0)
        else:
            up.add_metric(["database"], 1)
            counted = GaugeMetricFamily("secateur_jobs", "Jobs by state.", labels=["state"])
            for state, count in by_state.items():
                counted.add_metric([state.value], count)
            yield counted
            yield GaugeMetricFamily("secateur_stages_waiting", "Stages that wait for a worker.", value=waiting)
        messages = self._messages()
        up.add_metric(["broker"], 0 if messages is None else 1)
        if messages is not None:
            yield GaugeMetricFamily("secateur_broker_messages", "Messages that wait in the broker.", value=messages)
        yield up

    def _messages(self) -> int | None:
        from app.broker.queue import depth  # heavy, and not needed to start

        try:
            return depth(celery=celery_for(self._settings))
        except ServiceError:  # no broker is configured
            return None


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={
        200: {
            "description": "The Prometheus text format.",
            "content": {"text/plain": {"schema": {"type": "string"}, "example": examples.METRICS}},
        },
        **problems(UNAUTHORIZED, instance="/metrics"),
    },
)
def get_metrics(request: Request, _: Caller) -> Response:
    """Requests by route and status, jobs by state, what waits, and whether database and broker answer."""
    metrics = cast(Metrics, request.app.state.metrics)
    return Response(generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
