"""Minutes that bound a whole recovery: each part has a share, and killed attempts count."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from workers.engine.progress import Progress, no_progress
from workers.engine.recovery.clock import Clock, TimeUp


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    time = {"s": 100.0}
    monkeypatch.setattr("workers.engine.recovery.clock.time.monotonic", lambda: time["s"])
    return time


def killed(clock: Clock, now: dict[str, float]) -> None:
    """A part that is ended from outside after five seconds."""
    with suppress(KeyboardInterrupt), clock.part("healing", no_progress):
        now["s"] += 5
        raise KeyboardInterrupt


def test_without_a_limit_nothing_is_measured(tmp_path: Path) -> None:
    free = Clock(tmp_path / "seconds.json", None)
    with free.part("text", no_progress) as progress:
        assert progress is no_progress
    assert free.left() is None
    assert not (tmp_path / "seconds.json").exists()


def test_parts_add_up_and_the_next_attempt_counts_them(tmp_path: Path, now: dict[str, float]) -> None:
    first = Clock(tmp_path / "deeper" / "seconds.json", 60.0)
    with first.part("text", no_progress):
        now["s"] += 10
    killed(first, now)
    assert first.left() == 45
    second = Clock(tmp_path / "deeper" / "seconds.json", 60.0)
    with second.part("healing", no_progress):
        now["s"] += 1
    assert second.left() == 44
    with second.part("healing", no_progress):
        now["s"] += 100
    assert second.left() == 0


def test_what_a_killed_part_had_taken_is_noted_while_it_runs(tmp_path: Path, now: dict[str, float]) -> None:
    with Clock(tmp_path / "seconds.json", 60.0).part("text", no_progress) as progress:
        now["s"] += 7
        progress(1, 9, "tokens")
        assert Clock(tmp_path / "seconds.json", 60.0).left() == 53


def test_a_part_ends_when_its_share_is_used_up(tmp_path: Path, now: dict[str, float]) -> None:
    told: list[tuple[int, int, str]] = []
    limited = Clock(tmp_path / "seconds.json", 60.0)

    def work(progress: Progress) -> None:
        now["s"] += 29
        progress(1, 9, "tokens")
        now["s"] += 1
        progress(2, 9, "bytes")  # not to be ended at
        progress(9, 9, "tokens")  # it is over anyway
        progress(3, 9, "tokens")
        raise AssertionError("it had to end")

    def part() -> None:
        with limited.part("text", lambda *at: told.append(at), share=0.5, units=("tokens",)) as progress:
            work(progress)

    with pytest.raises(TimeUp) as up:
        part()
    assert up.value.done == 3
    assert told == [(1, 9, "tokens"), (2, 9, "bytes"), (9, 9, "tokens"), (3, 9, "tokens")]
    assert limited.left() == 30
