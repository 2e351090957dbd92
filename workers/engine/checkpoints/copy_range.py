"""Copy a range of bytes from file to file inside the kernel, so that no weights pass through this process."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable

from secateur.contract.errors import BadCheckpoint

CHUNK = 1 << 26  # bytes per system call: progress and cancelling get their turn in between
# What a file system or kernel answers that cannot copy in this way; the next way is tried.
_CANNOT = frozenset({errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF})

Step = Callable[[int, int, int, int], int]  # source, target, offset in the source, most bytes → bytes copied


def copy_range(source: int, target: int, start: int, size: int, *, copied: Callable[[int], None]) -> None:
    """Append `size` bytes from offset `start` of the file descriptor `source` at `target`'s position.

    Args:
        copied: called with the number of bytes of each step.

    Raises:
        BadCheckpoint: the source ends early.
        OSError: reading or writing fails, as on a full disk.
    """
    steps = list(_STEPS)
    while size > 0:
        try:
            done = steps[0](source, target, start, min(size, CHUNK))
        except OSError as error:
            if error.errno not in _CANNOT or len(steps) == 1:
                raise
            del steps[0]
            continue
        if done == 0:
            raise BadCheckpoint("the weights were cut short while they were copied.")
        start += done
        size -= done
        copied(done)


def _read_and_write(source: int, target: int, start: int, size: int) -> int:
    data = memoryview(os.pread(source, min(size, 1 << 20), start))
    done = 0
    while done < len(data):
        done += os.write(target, data[done:])
    return done


_STEPS: list[Step] = [_read_and_write]
if sys.platform == "linux":
    _STEPS = [
        lambda source, target, start, size: os.copy_file_range(source, target, size, offset_src=start),
        lambda source, target, start, size: os.sendfile(target, source, start, size),
        _read_and_write,
    ]
