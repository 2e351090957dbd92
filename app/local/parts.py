"""Watching over the parts of `secateur up`: what has ended is started again, at a bounded rate, and told.

A part may end at any time: the kernel kills it for memory, a disk is full, somebody sends it a signal. Jobs outlive
that, since Postgres is the truth about them, so the service goes on as soon as the part is back. The first restart is
at once; each further one within `QUIET_SECONDS` waits twice as long, up to `LONGEST_WAIT_SECONDS`, so that what cannot
run costs a line a minute and no more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from secateur.contract.errors import ServiceError
from secateur.contract.shown import first_line

FIRST_WAIT_SECONDS = 1.0  # before the second restart
LONGEST_WAIT_SECONDS = 60.0
QUIET_SECONDS = 300.0  # a part that has run for so long starts at once again


@dataclass(frozen=True)
class Part:
    """One process that belongs to the service."""

    name: str
    log: Path
    start: Callable[[], None]  # again, after it has ended; ServiceError or OSError if it cannot
    exit_code: Callable[[], int | None]  # None while it runs


class Watch:
    """Looks after parts; what the first ones give, the later ones need."""

    def __init__(
        self, parts: Sequence[Part], say: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._parts = parts
        self._say = say
        self._clock = clock
        self._starts: dict[str, list[float]] = {part.name: [] for part in parts}  # restarts, in the quiet time
        self._due: dict[str, float] = {}  # of the parts that have ended: when each is started again

    def look(self) -> None:
        """Look at each part once: notice what has ended, and start what is due."""
        for part in self._parts:
            code = part.exit_code()
            if part.name not in self._due:
                if code is None:
                    continue
                wait = self._wait(part)
                self._due[part.name] = self._clock() + wait
                when = f"in {wait:.0f} s" if wait else "at once"
                self._say(f"{part.name} ended with status {code}; starting it again {when} (its log is {part.log})")
            if self._clock() >= self._due[part.name]:
                self._start(part)

    def _start(self, part: Part) -> None:
        self._starts[part.name].append(self._clock())
        try:
            part.start()
        except (ServiceError, OSError) as error:
            wait = self._wait(part)
            self._due[part.name] = self._clock() + wait
            reason = first_line(error)
            self._say(f"{part.name} does not start ({reason}); trying again in {wait:.0f} s (its log is {part.log})")
        else:
            del self._due[part.name]

    def _wait(self, part: Part) -> float:
        """Seconds until the next start: none after a quiet time, then twice as many each time."""
        now = self._clock()
        recent = [moment for moment in self._starts[part.name] if now - moment < QUIET_SECONDS]
        self._starts[part.name] = recent
        if not recent:
            return 0.0
        return float(min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** (len(recent) - 1)))
