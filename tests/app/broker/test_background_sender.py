"""Messages sent behind a request's back: all of them, together where they can go together, and never an error."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest

from app.broker import background_sender
from app.broker.background_sender import Sender


def test_what_comes_meanwhile_goes_together() -> None:
    trips: list[list[UUID]] = []
    sending, go_on = threading.Event(), threading.Event()

    def send(stage_ids: Sequence[UUID]) -> None:
        trips.append(list(stage_ids))
        sending.set()
        assert go_on.wait(30)

    waiting, stage_ids = Sender(send), [uuid4() for _ in range(4)]
    waiting.send(stage_ids[0])
    assert sending.wait(30)
    for stage_id in stage_ids[1:]:
        waiting.send(stage_id)
    assert not waiting.flush(seconds=0.01)
    go_on.set()
    assert waiting.flush(seconds=30)
    assert trips == [stage_ids[:1], stage_ids[1:]]


def test_what_comes_in_the_rest_after_a_trip_goes_together(monkeypatch: pytest.MonkeyPatch) -> None:
    trips: list[list[UUID]] = []
    rests, go_on = threading.Event(), threading.Event()

    def rest(seconds: float) -> None:
        rests.set()
        assert go_on.wait(30)

    monkeypatch.setattr(background_sender, "time", SimpleNamespace(sleep=rest, monotonic=time.monotonic))
    waiting, stage_ids = Sender(lambda batch: trips.append(list(batch))), [uuid4() for _ in range(4)]
    waiting.send(stage_ids[0])
    assert rests.wait(30)
    assert trips == [stage_ids[:1]]  # one that comes alone waits for nothing
    for stage_id in stage_ids[1:]:
        waiting.send(stage_id)
    go_on.set()
    assert waiting.flush(seconds=30)
    assert trips == [stage_ids[:1], stage_ids[1:]]


def test_a_stopped_one_has_sent_all_and_begins_again() -> None:
    sent: list[UUID] = []
    waiting, stage_ids = Sender(sent.extend), [uuid4() for _ in range(3)]
    for stage_id in stage_ids:
        waiting.send(stage_id)
    thread = waiting._thread
    assert thread is not None
    waiting.stop(seconds=30)
    thread.join(30)
    assert not thread.is_alive()
    assert sent == stage_ids
    waiting.send(stage_ids[0])
    assert waiting.flush(seconds=30)
    assert sent == [*stage_ids, stage_ids[0]]
    waiting.stop(seconds=30)


def test_a_failure_is_logged_and_the_next_ones_are_sent(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[UUID] = []

    def send(stage_ids: Sequence[UUID]) -> None:
        if stage_ids[0] == bad:
            raise RuntimeError("no")
        sent.extend(stage_ids)

    waiting, bad, good = Sender(send), uuid4(), uuid4()
    waiting.send(bad)
    assert waiting.flush(seconds=30)
    waiting.send(good)
    assert waiting.flush(seconds=30)
    assert sent == [good]
    assert "the janitor will" in caplog.text


def test_what_a_broker_that_is_down_keeps_waiting_is_bounded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(background_sender, "MOST_WAITING", 3)
    on_its_way, go_on = threading.Event(), threading.Event()

    def publish(_: object) -> None:
        on_its_way.set()
        go_on.wait(30)

    waiting = Sender(publish)
    waiting.send(uuid4())
    assert on_its_way.wait(30)  # the thread takes no more until it goes on
    for _ in range(4):
        waiting.send(uuid4())
    go_on.set()
    assert waiting.flush(seconds=30)
    assert "the janitor will send stage" in caplog.text
