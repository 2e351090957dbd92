"""What a user reads when a stage process broke without a word: which signal, how much memory, what to do about it."""

from __future__ import annotations

import signal

from secateur.contract.errors import StageFailed
from secateur.contract.numbers import plain, size
from workers.launch.fork_server import Exit

_LESS_MEMORY = (
    "Lower the micro-batch size, the tokens per sample or the batch sizes of the benchmark, "
    "or use a worker with more memory."
)


def out_of_memory(exit_: Exit, *, limit: int) -> StageFailed:
    """The problem of a stage that was ended for its memory: by its guardian, or by the kernel before that.

    Args:
        limit: bytes that the stage was allowed.
    """
    used = f"It used {size(exit_.memory)}" if exit_.memory else "What it used is not known"
    if exit_.reason == "memory":
        who, limited = "", f"; the limit of a stage is {size(limit)} on this worker (SECATEUR_STAGE_MEMORY_BYTES)"
    else:
        who = " and the system killed it (SIGKILL)"
        limited = f" when that was last measured; its limit of {size(limit)} was more than the system had left"
    return StageFailed(
        f"The stage ran out of memory{who}. {used}{limited}. It is not tried again as it is, since that would end the "
        f"same way. {_LESS_MEMORY}"
    )


def describe(exit_: Exit) -> StageFailed:
    """The problem of a process that ended with neither result nor error, and not for its memory."""
    used = f" It used up to {size(exit_.memory)} of memory." if exit_.memory else ""
    if exit_.code is None:
        return StageFailed(
            "The stage process could not be started, or was killed together with the guardian that watches over it. "
            "The worker's log says which: a fork server that could not import something ends at once."
        )
    if exit_.code >= 0:
        return StageFailed(f"The stage process ended with exit status {exit_.code} and no result.{used}")
    try:
        name = signal.Signals(-exit_.code).name
    except ValueError:
        name = f"signal {-exit_.code}"
    if exit_.code == -signal.SIGKILL:
        return StageFailed(
            f"The stage process was killed (SIGKILL) by someone or something on its machine.{used} If that was for its "
            f"memory: {_LESS_MEMORY[0].lower()}{_LESS_MEMORY[1:]}"
        )
    return StageFailed(f"The stage process crashed ({name}).{used}")


def time_limit(seconds: float) -> StageFailed:
    """The problem of a process that ran for too long."""
    return StageFailed(
        f"The stage ran longer than the limit of {plain(seconds)} seconds and was stopped. Ask for less work in one "
        "stage, or raise SECATEUR_STAGE_TIME_LIMIT_SECONDS on the workers; a retry goes on from the last checkpoint."
    )


def disk_full(where: str) -> StageFailed:
    """The problem of a disk without space."""
    return StageFailed(
        f"There is no space left in {where}; nothing was published. Free space there, then retry the job: "
        "it goes on from where this stage stopped."
    )
