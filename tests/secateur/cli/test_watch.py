"""What the bars of `secateur watch` show of a job, by its events."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from app.api import examples
from secateur.cli.watch import JobView
from secateur.schemas.events import Event
from secateur.schemas.jobs import Job


def event(type: str, stage: str, *, level: str = "info", **data: Any) -> Event:
    moment = datetime(2026, 11, 24, tzinfo=UTC)
    return Event.model_validate(
        {"seq": 1, "created_at": moment, "type": type, "level": level, "stage": stage, "attempt": 1, "data": data}
    )


def drawn(view: JobView) -> list[str]:
    console = Console(width=80, record=True, file=None, quiet=False)
    with console.capture() as capture:
        console.print(view)
    return [line.rstrip() for line in capture.get().splitlines()]


def test_what_the_check_has_found_stays_in_sight() -> None:
    view = JobView(Job.model_validate(examples.JOB_QUEUED), plain=False)
    view.take(event("state", "check", state="running"))
    view.take(event("log", "check", message="model: llama, 4 blocks"))
    view.take(event("log", "check", level="debug", message="something for the log"))
    view.take(event("log", "check", level="warning", message="a library's warning"))
    view.take(event("log", "check", message="measuring text: " + "long " * 30))
    view.take(event("state", "check", state="succeeded"))
    view.take(event("log", "score", message="a line of another stage"))
    lines = drawn(view)
    assert lines[-2] == "  model: llama, 4 blocks"
    assert lines[-1].startswith("  measuring text: long long ")
    assert lines[-1].endswith("…")
    assert len(lines) == len(view.stages) + 2


def test_what_a_running_stage_uses_stands_below_the_bars() -> None:
    view = JobView(Job.model_validate(examples.JOB_QUEUED), plain=False)
    use = {"memory_bytes": 2_400_000_000, "peak_memory_bytes": 2_400_000_000, "cores": 1.9}
    view.take(event("state", "score", state="running"))
    view.take(event("progress", "score", done=3, total=30, unit="blocks", use=use))
    assert drawn(view)[-1] == "  score: 2.4 GB of memory, 1.9 cores"
    view.take(event("progress", "score", done=4, total=30, unit="blocks"))  # of an older service
    assert len(drawn(view)) == len(view.stages)
    view.take(event("progress", "score", done=5, total=30, unit="blocks", use=use))
    view.take(event("state", "score", state="succeeded"))
    assert len(drawn(view)) == len(view.stages)


def test_plain_lines_of_progress_say_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    view = JobView(Job.model_validate(examples.JOB_QUEUED), plain=True)
    use = {"memory_bytes": 2_400_000_000, "peak_memory_bytes": 2_400_000_000}
    view.take(event("progress", "score", done=3, total=30, unit="blocks", use=use))
    assert capsys.readouterr().err == "score: 3 of 30 blocks; 2.4 GB of memory\n"


def test_a_check_that_begins_again_finds_anew() -> None:
    view = JobView(Job.model_validate(examples.JOB_QUEUED), plain=False)
    for _ in range(2):
        view.take(event("state", "check", state="running"))
        view.take(event("log", "check", message="model: llama"))
    assert view.found == ["model: llama"]
