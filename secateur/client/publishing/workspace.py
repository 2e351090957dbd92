"""Where a result is downloaded to before it is sent on.

Unless the user names a folder it is one of the user's cache, which stays where sending fails and is found again by its
name. Whoever uses it holds a lock on it, since two publish the same result at a time: the other one, a pipeline of
another branch perhaps, takes the next folder, and neither removes what the other still sends.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path


@contextmanager
def workspace(folder: Path | None, name: str) -> Iterator[Path]:
    """The folder that was asked for, or one of the user's cache of this name: it goes when all is well."""
    if folder is not None:
        yield folder
        return
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "secateur"
    kept, lock = next(held for number in count(1) if (held := _hold(cache / _numbered(name, number))))
    try:
        yield kept
        shutil.rmtree(kept, ignore_errors=True)
    finally:
        if lock is not None:
            os.close(lock)


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}-{number}"


def _hold(folder: Path) -> tuple[Path, int | None] | None:
    """The folder, made where there is none, and what holds it; None where another holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        return folder, None  # which cannot lock a folder, and removes no file that is read
    import fcntl

    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        same = os.path.samestat(os.fstat(lock), folder.stat())  # and was not removed meanwhile
    except (BlockingIOError, FileNotFoundError):
        same = False
    except OSError:  # a file system without locks
        return folder, lock
    if same:
        return folder, lock
    os.close(lock)
    return None
