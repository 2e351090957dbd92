"""The words for a failure that nobody foresaw."""

from __future__ import annotations

import errno

from secateur.contract.errors import DeviceFailed, StageFailed
from secateur.contract.shown import shortened

MOST = 500  # characters of the first line of an exception


def describe_failure(error: BaseException) -> StageFailed:
    """What the user reads of an exception that nobody foresaw; the traceback goes to the log."""
    words = shortened(next(iter(str(error).strip().splitlines()), ""), MOST)
    name = type(error).__name__
    if isinstance(error, MemoryError) or name == "OutOfMemoryError" or "not enough memory" in words:
        # torch's CPU allocator raises a plain RuntimeError; both allocators say how much was asked for
        return StageFailed(
            "The stage ran out of memory. Lower the micro-batch size, the tokens per sample or the batch sizes of the "
            "benchmark, or run it on a machine with more memory." + (f" In full: {words}" if words else "")
        )
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StageFailed("The worker's disk is full; free space in its data folder and retry the job.")
    from workers.engine.device import is_device_failure  # torch

    if is_device_failure(error):
        return DeviceFailed(f"The worker's GPU or its driver failed: {words}")
    return StageFailed(
        f"Secateur did not foresee this error ({name}{': ' if words else ''}{words}). It is a fault of the program, "
        "or of what the worker runs on; the traceback is in the job's log."
    )
