"""Parts that end are started again, at a bounded rate; played with a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from app.local.parts import LONGEST_WAIT_SECONDS, QUIET_SECONDS, Part, Watch


@dataclass
class Played:
    """A part that runs until it is ended, and time that passes when a test says so."""

    now: float = 1000.0
    code: int | None = None
    fails: bool = False
    starts: list[float] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def start(self) -> None:
        self.starts.append(self.now)
        if self.fails:
            raise OSError("no room\nand more lines")
        self.code = None

    def watch(self, *more: Part) -> Watch:
        part = Part("the part", Path("part.log"), self.start, lambda: self.code)
        return Watch([part, *more], self.said.append, clock=lambda: self.now)

    def run(self, watch: Watch, seconds: float, each: Callable[[], None] = lambda: None) -> None:
        until = self.now + seconds
        while self.now < until:
            each()
            watch.look()
            self.now += 0.5


def test_what_runs_is_left_alone() -> None:
    played = Played()
    played.run(played.watch(), 100)
    assert (played.starts, played.said) == ([], [])


def test_the_first_restart_is_at_once() -> None:
    played = Played(code=-9)
    played.watch().look()
    assert played.starts == [1000.0]
    assert played.said == ["the part ended with status -9; starting it again at once (its log is part.log)"]


def test_what_keeps_ending_is_started_ever_more_seldom_and_never_given_up() -> None:
    played = Played()

    def end() -> None:
        played.code = 1

    played.run(played.watch(), 600, each=end)
    gaps = [later - earlier for earlier, later in zip(played.starts, played.starts[1:], strict=False)]
    assert gaps[:5] == [1.5, 2.5, 4.5, 8.5, 16.5]  # a wait, and the half second until its end is seen
    assert max(gaps) <= LONGEST_WAIT_SECONDS + 0.5
    assert 600 / LONGEST_WAIT_SECONDS <= len(played.starts) <= 20
    assert len(played.said) <= len(played.starts) + 1  # a line for each start, not for each look


def test_a_start_that_fails_is_told_in_a_line_and_tried_again() -> None:
    played = Played(code=1, fails=True)
    watch = played.watch()
    played.run(watch, 2.0)
    assert played.starts == [1000.0, 1001.0]
    assert played.said[1] == "the part does not start (no room); trying again in 1 s (its log is part.log)"
    played.fails = False
    played.run(watch, 60.0)
    assert played.code is None
    assert len(played.starts) == 3


def test_after_a_quiet_time_the_restart_is_at_once_again() -> None:
    played = Played()
    watch = played.watch()
    for _ in range(3):
        played.code = 1
        played.run(watch, 10)
    played.run(watch, QUIET_SECONDS)
    played.code = 1
    began = played.now
    played.run(watch, 1)
    assert played.starts[-1] == began


def test_a_part_that_cannot_start_does_not_keep_the_others_waiting() -> None:
    played, other = Played(code=1, fails=True), Played(code=1)
    watch = played.watch(Part("the other", Path("other.log"), other.start, lambda: other.code))
    watch.look()
    assert other.code is None
