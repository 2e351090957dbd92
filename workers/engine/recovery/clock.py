"""The minutes that a recovery may take, over all that it does and over all attempts.

`max_minutes` bounds the whole: reading or generating the text, healing, the original's predictions, training. Each part
before the training has a share, and does less where that is used up; the training has what is left. What each part has
taken is written beside its work, so that a killed attempt's seconds count.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from secateur.whole_files import write_whole
from workers.engine.progress import Progress

WRITTEN_SECONDS = 2.0  # between two notes of what a part has taken so far


class TimeUp(Exception):
    """A part has used up its share; how far it was."""

    def __init__(self, done: int, unit: str) -> None:
        super().__init__(f"{done} {unit}")
        self.done, self.unit = done, unit


class Clock:
    """Counts where there is a limit, and in the process that leads alone; otherwise nothing is measured."""

    def __init__(self, file: Path, limit: float | None) -> None:
        """`limit` in seconds; `file` holds what each part has taken."""
        self._file = file
        self.limit = limit

    def left(self) -> float | None:
        """Seconds that are left of the limit; None where there is none."""
        return None if self.limit is None else max(0.0, self.limit - sum(self._taken().values()))

    @contextmanager
    def part(
        self, name: str, progress: Progress, *, share: float = 1.0, units: Collection[str] | None = None
    ) -> Iterator[Progress]:
        """Count what happens until the context ends as this part; a Progress for it, which ends it in time.

        Args:
            share: of the limit.
            units: of the progress that the part may be ended at; None: at any.

        Raises:
            TimeUp: from the Progress, when the share is used up.
        """
        if self.limit is None:
            yield progress
            return
        most, before, began = share * self.limit, self._taken().get(name, 0.0), time.monotonic()
        written = began

        def tell(done: int, total: int, unit: str) -> None:
            nonlocal written
            progress(done, total, unit)
            now = time.monotonic()
            if now - written >= WRITTEN_SECONDS:
                written = now
                self._write(name, before + now - began)
            if before + now - began >= most and done < total and (units is None or unit in units):
                raise TimeUp(done, unit)

        try:
            yield tell
        finally:
            self._write(name, before + time.monotonic() - began)

    def _taken(self) -> dict[str, float]:
        return dict(json.loads(self._file.read_bytes())) if self._file.is_file() else {}

    def _write(self, name: str, seconds: float) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self._file, json.dumps({**self._taken(), name: seconds}).encode())
