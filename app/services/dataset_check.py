"""Reading a stranger's file in a process of its own, with little memory and a bounded time: all of it, or first rows.

Rows of JSON take many times their length when they are parsed, a page of a Parquet file unfolds to gigabytes before
anything can be counted, and a reader written in C++ can end the process that it runs in. None of that may reach the
API: what the process cannot do is the file's fault, and said so.

The process is started from this package's own folder: whatever lies in the current one is not run.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from app.services.dataset_files import POINTER, Looked, look_through, table_rows
from secateur.contract.datasets import DatasetFormat, DatasetKind
from secateur.contract.errors import FieldError, InvalidInput, PayloadTooLarge, ServiceError, Unavailable

MEMORY_BYTES = 1 << 30  # that the process may write to
CPU_SECONDS = 60.0  # and more for a large file:
BYTES_PER_SECOND = 500_000  # slower than any file that was seen
_ROOT = Path(__file__).resolve().parents[2]
_START = "import sys; sys.path.insert(0, sys.argv[1]); from app.services.dataset_check import main; main(sys.argv[2:])"
_ERRORS = {kind.slug: kind for kind in (InvalidInput, PayloadTooLarge)}


def check_file(path: Path, format: DatasetFormat, *, most_bytes: int) -> Looked:
    """As `look_through`, in a process of its own where the format can take more than the file's size.

    Raises:
        InvalidInput: as `look_through`, or the process broke on the file or took too long.
        PayloadTooLarge: as `look_through`, or the process ran out of its memory.
    """
    if format is DatasetFormat.TEXT:
        return look_through(path, format, most_bytes=most_bytes)
    answer = _asked("look", path, format, str(most_bytes))
    return Looked(DatasetKind(answer["kind"]), answer["rows"])


def first_of_table(path: Path, *, most_bytes: int, count: int, room: int) -> list[tuple[int, Any]]:
    """The first rows of a Parquet file, with their numbers, as `within` bounds them.

    Raises:
        InvalidInput, PayloadTooLarge: as `check_file`; of one that was found good before, the limits have changed.
    """
    arguments = (str(most_bytes), str(count), str(room))
    return [(number, row) for number, row in _asked("first", path, DatasetFormat.PARQUET, *arguments)["first"]]


def within(rows: Iterator[tuple[int, Any]], *, count: int, room: int) -> Iterator[tuple[int, Any]]:
    """The first `count` of these rows, as long as their JSON has no more than `room` bytes.

    One that goes beyond is the last, and is None.
    """
    for number, row in islice(rows, count):
        room -= len(json.dumps(row, default=str))
        yield number, row if room >= 0 else None
        if room < 0:
            return


def _asked(what: str, path: Path, format: DatasetFormat, *arguments: str) -> dict[str, Any]:
    """What the process answers."""
    seconds = int(CPU_SECONDS + path.stat().st_size / BYTES_PER_SECOND)
    limits = [str(MEMORY_BYTES), str(seconds)]
    command = [sys.executable, "-P", "-c", _START, str(_ROOT), what, *limits, str(path), format.value, *arguments]
    # Arrow's own allocators take a gigabyte of addresses before they are asked for anything.
    environment = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, env=environment, check=False)
    except OSError as error:
        raise Unavailable(f"no process could be started to look through the file: {error.strerror}") from error
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        detail = "the file cannot be read: its reader broke on it, or took too long"
        raise InvalidInput.field(POINTER, detail, expected=f"a whole {format.value} file") from None
    if "slug" not in answer:
        return answer
    raise _ERRORS[answer["slug"]](answer["detail"], errors=[FieldError(**error) for error in answer["errors"]])


def main(arguments: list[str]) -> None:
    """The process: reads one file, and prints what it found as JSON."""
    what, memory, seconds, path, format, *more = arguments
    resource.setrlimit(resource.RLIMIT_DATA, (int(memory), int(memory)))
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds)))
    try:
        answer = _READS[what](Path(path), DatasetFormat(format), *map(int, more))
    except MemoryError:
        detail = f"a row of the file takes more than {int(memory):,} bytes of memory to read"
        answer = _problem(PayloadTooLarge(detail))
    except (InvalidInput, PayloadTooLarge) as error:
        answer = _problem(error)
    print(json.dumps(answer, default=str))


def _look(path: Path, format: DatasetFormat, most_bytes: int) -> dict[str, Any]:
    looked = look_through(path, format, most_bytes=most_bytes)
    return {"kind": looked.kind.value, "rows": looked.rows}


def _first(path: Path, format: DatasetFormat, most_bytes: int, count: int, room: int) -> dict[str, Any]:
    assert format is DatasetFormat.PARQUET, "the beginning of others is read where they are"
    return {"first": list(within(table_rows(path, most_bytes), count=count, room=room))}


_READS: Mapping[str, Callable[..., dict[str, Any]]] = {"look": _look, "first": _first}


def _problem(error: ServiceError) -> dict[str, Any]:
    return {"slug": error.slug, "detail": error.detail, "errors": [vars(field) for field in error.errors]}
