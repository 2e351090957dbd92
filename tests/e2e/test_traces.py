"""One trace shows a request, the attempts at each stage of its job, and their parts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.fixtures.collector import CollectedSpan, Collector, collecting
from tests.fixtures.service import Service

SERVER, CONSUMER = 2, 5  # kinds of spans
STAGES = ["check", "score", "prune", "recover", "benchmark", "report"]
SPEC: dict[str, Any] = {"model": {"source": "local", "path": "m"}, "pruning": {"kind": "depth", "blocks": 1}}


@contextmanager
def api(service: Service, **settings: str) -> Iterator[str]:
    """The address of a real API process."""
    given = {
        "database_url": str(service.settings.database_url),
        "redis_url": str(service.settings.redis_url),
        "data_dir": str(service.settings.data_dir),
        "check_local": "false",
        **settings,
    }
    environment = {**os.environ, **{f"SECATEUR_{name.upper()}": value for name, value in given.items()}}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [sys.executable, "-P", "-m", "app.serve", "--fd", str(listener.fileno())]
        process = subprocess.Popen(command, env=environment, pass_fds=[listener.fileno()])
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            process.terminate()
            process.wait()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")  # milliseconds until a batch is sent
    with collecting() as collector:
        yield collector


def attempts_of(collector: Collector) -> list[CollectedSpan]:
    """In the order in which they began."""
    found = [span for span in list(collector.spans) if "secateur.attempt" in span.attributes]
    return sorted(found, key=lambda span: span.start)


def all_messages_came(collector: Collector) -> bool:
    """Whether the messages that woke the attempts, whose spans end later, are there; a message may come twice."""
    messages = {span.span_id for span in collector.named("run/secateur.run_stage")}
    return all(set(span.links) <= messages for span in attempts_of(collector))


@pytest.mark.thorough
def test_a_request_its_attempts_and_their_parts(service: Service, collector: Collector) -> None:
    scripts = {"do/check": "parts;crash:1", "do/score": "parts"}
    with api(service, otlp_endpoint=collector.endpoint) as address:
        caller = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "x-request-id": "ci/1"}
        answer = httpx.post(f"{address}/jobs", json={**SPEC, "labels": scripts}, headers=caller, timeout=60.0)
        assert answer.status_code == 202, answer.text
        httpx.get(f"{address}/healthz", timeout=60.0)
        service.worker(otlp_endpoint=collector.endpoint, lease_seconds="20")
        job = service.settled(UUID(answer.json()["id"]))
        service.until(lambda: collector.named("report") and all_messages_came(collector))
    attempts = attempts_of(collector)
    (request,) = collector.named("POST /jobs")
    assert (request.service, request.kind) == ("secateur-api", SERVER)
    assert (request.trace_id, request.parent_id) == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    assert request.attributes["secateur.request_id"] == "ci/1"
    assert not collector.named("GET /healthz")

    assert [span.name for span in attempts] == ["check", *STAGES]  # the first process was killed
    for span in attempts:
        assert (span.service, span.kind) == ("secateur-worker", CONSUMER)
        assert (span.trace_id, span.parent_id) == (request.trace_id, request.span_id)
        assert span.attributes["secateur.job_id"] == str(job.id)
        assert span.attributes["secateur.request_id"] == "ci/1"
        assert span.links
    assert [span.attributes["secateur.state"] for span in attempts] == ["queued", *["succeeded"] * 6]

    outer, inner = collector.named("outer"), collector.named("inner")
    began = [attempts[0].span_id, attempts[1].span_id, attempts[2].span_id]  # check twice, score
    assert sorted(span.parent_id for span in outer) == sorted(began)
    assert {span.parent_id for span in inner} == {span.span_id for span in outer}
    for span in (*outer, *inner):
        assert span.trace_id == request.trace_id
        assert span.end > span.start
    (cut,) = [span for span in collector.named("cut") if span.failed]  # what the killed process was at
    assert cut.parent_id == attempts[0].span_id
    assert cut.words == "the process ended in it"
    assert not any(span.failed for span in outer)
