"""The words for a failure that nobody foresaw."""

from __future__ import annotations

from app.errors import StageFailed


def describe_failure(error: BaseException) -> StageFailed:
    """What the user reads of an exception that nobody foresaw; the traceback goes to the log."""
    name = type(error).__name__
    if isinstance(error, MemoryError) or name == "OutOfMemoryError":
        return StageFailed(
            "The stage ran out of memory. Lower the micro-batch size, the tokens per sample or the batch sizes of the "
            "benchmark, or run it on a machine with more memory."
        )
    if "not enough memory" in str(error):  # torch's CPU allocator raises a plain RuntimeError
        return StageFailed("The stage ran out of memory: torch could not allocate a tensor. Ask for smaller batches.")
    if isinstance(error, OSError) and error.errno == 28:
        return StageFailed("The worker's disk is full; free space in its data folder and retry the job.")
    first = str(error).strip().splitlines()[:1]
    return StageFailed(f"The stage broke with {name}" + (f": {first[0][:500]}" if first else "."))
