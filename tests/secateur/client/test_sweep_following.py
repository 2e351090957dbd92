"""Following a sweep, with each of the two clients: over a stream, over broken ones, and by asking."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from app.api.example_sweeps import EXAMPLE, SWEEP_ID
from secateur.client import sweep_following
from secateur.client.errors import NotFound, WaitTimedOut
from tests.fixtures.scripted_service import Broken, Fake, problem

pytestmark = pytest.mark.usefixtures("runner")

PATH = f"get_sweeps_{SWEEP_ID}"
EVENTS = f"{PATH}_events"


def stands(state: str, *running: str) -> dict[str, Any]:
    """The sweep in this state, its point 1 at these stages."""
    point = {**EXAMPLE["points"][1], "running": list(running), "state": "running" if running else "succeeded"}
    points = [*EXAMPLE["points"][:1], point, *EXAMPLE["points"][2:]]
    return {**EXAMPLE, "state": state, "points": points}


def change(state: str, *running: str) -> dict[str, Any]:
    whole = stands(state, *running)
    told = {name: whole[name] for name in ("id", "verdict", "counts", "finished_at")}
    return {**told, "state": state, "points": [whole["points"][1]]}


def frames(*changes: dict[str, Any]) -> bytes:
    return "".join(f"event: sweep\ndata: {json.dumps(one)}\n\n: ping\n\n" for one in changes).encode()


def stream(*changes: dict[str, Any], content: Any = None) -> httpx.Response:
    headers = {"content-type": "text/event-stream"}
    if content is not None:
        return httpx.Response(200, stream=content, headers=headers)
    return httpx.Response(200, content=frames(*changes), headers=headers)


def answer(whole: dict[str, Any]) -> httpx.Response:
    return httpx.Response(200, json=whole)


def fake(reads: list[Any], events: list[Any]) -> Fake:
    found = Fake()
    found.routes[PATH], found.routes[EVENTS] = reads, events
    return found


def test_who_waits_for_a_sweep_is_told_of_each_change() -> None:
    service = fake([answer(stands("running", "score"))], [stream(change("running"), change("succeeded"))])
    states: list[str] = []
    with service.client() as client:
        found = client.sweeps.wait(SWEEP_ID, on_progress=lambda sweep: states.append(sweep.state.value))
    assert found.state == "succeeded"
    assert states == ["running", "running", "succeeded"]


def followed(service: Fake, **more: Any) -> list[tuple[str, list[str]]]:
    with service.client() as client:
        return [(sweep.state.value, sweep.points[1].running) for sweep in client.sweeps.follow(SWEEP_ID, **more)]


def test_each_change_gives_the_whole_sweep() -> None:
    service = fake(
        [answer(stands("running", "score"))],
        [stream(change("running", "score"), change("running", "prune"), change("succeeded"))],
    )
    with service.client() as client:
        seen = list(client.sweeps.follow(SWEEP_ID))
    assert [sweep.points[1].running for sweep in seen] == [["score"], ["prune"], []]
    assert {len(sweep.points) for sweep in seen} == {6}
    assert seen[-1].state == "succeeded"
    assert service.slept == []


def test_a_stream_that_breaks_is_taken_up_again() -> None:
    service = fake(
        [answer(stands("running", "score")), answer(stands("running", "prune"))],
        [
            stream(content=Broken(frames(change("running", "recover")))),
            stream(change("running", "prune"), change("failed")),
        ],
    )
    assert followed(service) == [
        ("running", ["score"]), ("running", ["recover"]), ("running", ["prune"]), ("failed", [])
    ]  # fmt: skip


def test_where_streams_do_not_get_through_it_asks_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_following, "jittered", lambda seconds: seconds)  # which may put one before another
    states = [stands("running", "score")] * 5 + [stands("succeeded")]
    service = fake([answer(one) for one in states], [httpx.ConnectError("refused")])
    assert followed(service) == [("running", ["score"]), ("succeeded", [])]
    assert service.slept == sorted(service.slept)
    assert service.slept[-1] > 3  # seconds


def test_the_wait_is_bounded() -> None:
    service = fake([answer(stands("running", "score"))], [stream()])
    with pytest.raises(WaitTimedOut, match=f"sweep {SWEEP_ID} was not over after 20 s"):
        followed(service, timeout=20)
    assert 19 < service.now < 21


def test_a_sweep_that_there_is_not() -> None:
    with pytest.raises(NotFound):
        followed(fake([problem(404)], [stream()]))
