"""How long the stages of a job may take, by those that this installation has run: the median of seconds per unit.

Past stages count that did the same (`Task`) on the same device. Where there are none, the time is unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from secateur.contract.estimates.work import Task, Work

REACH = 20.0  # so many times more or less work, and what takes the time is something else


@dataclass(frozen=True)
class PastStage:
    """A stage that has succeeded at its first attempt, by its own work."""

    task: Task
    device: str  # the device's own name: "NVIDIA H200"
    model: str  # hub id or path
    seconds: float
    work: Work
    memory: int | None  # bytes


@dataclass(frozen=True)
class Duration:
    """A time, and what it rests on."""

    seconds: float
    stages: int  # past ones
    unit: str  # by which they were compared


def duration(task: Task, work: Work | None, past: Sequence[PastStage], *, device: str) -> Duration | None:
    """The time of a stage; None where no past one can be compared.

    >>> score = Task("score", "perplexity")
    >>> past = [PastStage(score, "cpu", "m", seconds, Work(100, "byte"), None) for seconds in (8, 10, 90)]
    >>> duration(score, Work(200, "byte"), past, device="cpu")
    Duration(seconds=20.0, stages=3, unit='byte')
    """
    if work is None:
        return None
    same = [stage for stage in past if (stage.task, stage.device, stage.work.unit) == (task, device, work.unit)]
    alike = [stage for stage in same if 1 / REACH <= work.amount / stage.work.amount <= REACH]
    if not alike:
        return None
    return Duration(work.amount * median(stage.seconds / stage.work.amount for stage in alike), len(alike), work.unit)
