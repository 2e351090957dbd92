"""From a pipe to events."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from app.db.claims import Claim
from workers.machine.use import Use
from workers.supervision.event_relay import MAX_PENDING, EventRelay, StageResult

CLAIM = Claim(uuid4(), uuid4(), "recover", "recover", attempt=2, token=3)


class Pipe:
    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        os.set_blocking(self.read_end, False)
        os.set_blocking(self.write_end, False)
        self.relay = EventRelay(CLAIM, self.read_end)

    def write(self, *events: dict[str, Any] | bytes) -> None:
        for event in events:
            os.write(self.write_end, event if isinstance(event, bytes) else json.dumps(event).encode() + b"\n")
        self.relay.read()

    def told(self) -> list[tuple[str, dict[str, Any]]]:
        return [(event.type, event.data) for event in self.relay.batch()[0]]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    for descriptor in (pipe.read_end, pipe.write_end):
        os.close(descriptor)


def progress(done: int, total: int = 100) -> dict[str, Any]:
    return {"type": "progress", "done": done, "total": total, "unit": "steps"}


def test_events_carry_their_stage_attempt_and_time(pipe: Pipe) -> None:
    pipe.write({"type": "metrics", "data": {"loss": 1.5}}, {"type": "log", "level": "warning", "message": "hm"})
    metrics, log = pipe.relay.batch()[0]
    assert (metrics.stage, metrics.attempt, metrics.type, metrics.data) == ("recover", 2, "metrics", {"loss": 1.5})
    assert (log.level, log.data) == ("warning", {"message": "hm"})
    assert metrics.created_at is not None
    assert log.created_at is not None
    assert metrics.created_at <= log.created_at


def test_lines_may_come_in_pieces(pipe: Pipe) -> None:
    pipe.write(b'{"type": "log", "mess')
    assert pipe.told() == []
    pipe.write(b'age": "whole"}\n{"type": "log", "message": "tw')
    assert pipe.told() == [("log", {"message": "whole"})]


def test_progress_is_thinned_out_but_the_last_is_told(pipe: Pipe) -> None:
    pipe.write(*(progress(done) for done in range(50)))
    assert pipe.told() == [("progress", {"done": 0, "total": 100, "unit": "steps"})]
    assert pipe.relay.batch()[1] == {"done": 49, "total": 100, "unit": "steps"}  # the row is always up to date
    pipe.relay.finish()
    assert [data["done"] for _, data in pipe.told()] == [0, 49]
    pipe.relay.finish()
    assert len(pipe.told()) == 2


def test_progress_says_what_the_stage_uses_of_its_machine(pipe: Pipe) -> None:
    pipe.write(progress(1))
    pipe.relay.processes = Use(memory=700, peak=900, cores=1.5)
    pipe.write({**progress(100), "device": {"memory": 50, "peak": 80, "busy": 0.5}})
    pipe.write({**progress(100), "device": {"memory": 40, "peak": 60, "busy": None}})
    first, second, third = (data for _, data in pipe.told())
    assert "use" not in first  # not known yet
    processes = {"memory_bytes": 700, "peak_memory_bytes": 900, "cores": 1.5}
    on_device = {"device_memory_bytes": 50, "peak_device_memory_bytes": 80, "device_busy": 0.5}
    assert second["use"] == {**processes, **on_device}
    assert third["use"]["peak_device_memory_bytes"] == 80  # also where torch was told to count anew
    assert pipe.relay.use is not None
    assert pipe.relay.use.device_memory_bytes == 40
    assert pipe.relay.batch()[1] == {"done": 100, "total": 100, "unit": "steps"}


def test_completion_is_told_at_once(pipe: Pipe) -> None:
    pipe.write(progress(1), progress(2), progress(100))
    assert [data["done"] for _, data in pipe.told()] == [1, 100]


def test_result_and_problem_are_no_events(pipe: Pipe) -> None:
    pipe.write({"type": "result", "data": {"a": float("inf")}}, {"type": "error", "problem": {"detail": "nul \x00"}})
    assert pipe.told() == []
    assert pipe.relay.result == StageResult({"a": None})
    assert pipe.relay.problem == {"detail": "nul \ufffd"}


def test_other_lines_are_shown_and_not_believed(pipe: Pipe) -> None:
    pipe.write(b"Traceback\n", {"type": "state", "state": "succeeded"}, b"\n")
    assert [data["message"][:40] for _, data in pipe.told()] == ["the stage wrote a line that is no event:"] * 2


def test_secrets_are_hidden(pipe: Pipe) -> None:
    pipe.write({"type": "log", "message": "redis://:hunter2@host with hf_abcdefghijkl"})
    assert pipe.told() == [("log", {"message": "redis://:***@host with ***"})]
    pipe.write({"type": "error", "problem": {"detail": "a", "errors": [{"detail": "at postgresql://u:hunter2@h/d"}]}})
    pipe.told()
    assert pipe.relay.problem == {"detail": "a", "errors": [{"detail": "at postgresql://u:***@h/d"}]}


def test_what_is_not_taken_stays_in_the_pipe(pipe: Pipe) -> None:
    line = b'{"type": "log", "message": "x"}\n'
    written = 0
    for _ in range(200):
        try:
            written += os.write(pipe.write_end, line * 100)
        except BlockingIOError:
            break
        pipe.relay.read()
    assert pipe.relay.full
    assert written // len(line) > len(pipe.relay.batch()[0]) >= MAX_PENDING
    seen = 0
    while batch := pipe.relay.batch()[0]:
        seen += len(batch)
        pipe.relay.written(len(batch))
        pipe.relay.read()
    assert seen == written // len(line)


def test_the_end_of_the_pipe() -> None:
    pipe = Pipe()
    pipe.write(b'{"type": "log", "message": "no newline"}')
    os.close(pipe.write_end)
    pipe.relay.read()
    assert pipe.relay.ended
    assert pipe.told() == [("log", {"message": "no newline"})]
    os.close(pipe.read_end)
