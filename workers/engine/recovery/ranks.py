"""The processes that train one model together, data parallel: one per GPU, each a rank of a process group.

Each takes its share of every batch, and has the whole model or a part of it (`parallel.py`). The first rank, the stage
process itself, does alone what is done once: text, teacher, output, events.

The group lives for the training alone. Its members find each other through a file in the stage's scratch folder and
talk over the loopback interface, or between GPUs by NCCL's own ways: nothing listens to other machines.
See docs/decisions/several-processes.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psutil
import torch
import torch.distributed as dist
from torch import Tensor

from secateur.contract.errors import ServiceError, StageFailed
from workers.engine.recovery.rank_processes import RankProcesses
from workers.engine.runtime import Machine

MEETING = "meeting"  # the file through which ranks find each other
TIMEOUT = timedelta(minutes=30)  # that one rank waits for another, which may be writing a large snapshot
PATIENCE = 5.0  # seconds from an error of the first rank until it is believed to be its own


class RankDone(Exception):
    """Raised by the training in every rank but the first, whose work the rest is."""


@dataclass(frozen=True)
class Ranks:
    """The processes of a training, as one of them sees them."""

    index: int = 0
    count: int = 1
    others: RankProcesses | None = None  # the first rank's: the processes of the others
    ready: Callable[[], None] = lambda: None  # another rank's: tell the first that it can begin

    @property
    def first(self) -> bool:
        return self.index == 0


ALONE = Ranks()


def most_ranks(wanted: int, *, batch_size: int, micro_batch_size: int) -> int:
    """The greatest number of ranks, `wanted` at most, among which the micro-batches of a batch can be divided evenly.

    >>> most_ranks(4, batch_size=24, micro_batch_size=4)
    3
    """
    pieces = batch_size // micro_batch_size
    return next(count for count in range(min(wanted, pieces), 0, -1) if pieces % count == 0)


@contextmanager
def joined(ranks: Ranks, machine: Machine, scratch: Path) -> Iterator[None]:
    """In the process group of all ranks, with the threads of the machine shared out among those on a CPU.

    Raises:
        StageFailed: in the first rank, another one failed or was killed.
    """
    with ExitStack() as stack:
        if ranks.others is None:
            ranks.ready()
        else:
            scratch.mkdir(parents=True, exist_ok=True)
            (scratch / MEETING).unlink(missing_ok=True)  # of a killed attempt
            stack.enter_context(ranks.others.called())
        stack.enter_context(_settings(ranks, machine))
        broken = True
        try:
            _meet(ranks, machine, scratch)
            yield
            broken = False
        except ServiceError:
            raise
        except Exception as error:  # what a collective operation raises where a peer is gone depends on the backend
            failure = ranks.others.failure(PATIENCE) if ranks.others is not None else None
            if failure is None:
                raise
            raise failure from error
        finally:
            # NCCL would wait for a peer that may be gone; this process ends in a moment.
            if dist.is_initialized() and not (broken and machine.device.type == "cuda"):
                dist.destroy_process_group()


def _meet(ranks: Ranks, machine: Machine, scratch: Path) -> None:
    store = dist.FileStore(str(scratch / MEETING), ranks.count)  # type: ignore[attr-defined]  # its stub lacks it
    backend = "nccl" if machine.device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=ranks.index, world_size=ranks.count, timeout=TIMEOUT)


@contextmanager
def _settings(ranks: Ranks, machine: Machine) -> Iterator[None]:
    """The variables that torch and the backends read, and this rank's share of the threads."""
    cuda, threads = machine.device.type == "cuda", torch.get_num_threads()
    share = threads if cuda else max(1, threads // ranks.count)
    before = dict(os.environ)
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ.setdefault(name, _loopback())
    os.environ["LOCAL_RANK"] = "0"  # the number of the GPU: each process sees one
    torch.set_num_threads(share)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        os.environ.clear()
        os.environ.update(before)


def total(value: Tensor) -> Tensor:
    """The sum over all ranks, in each of them, in place. All have to call it."""
    dist.all_reduce(value)
    return value


def of_first(number: int, device: torch.device) -> int:
    """The number that the first rank has, in each of them. All have to call it."""
    value = torch.tensor(number, dtype=torch.int64, device=device)
    dist.broadcast(value, src=0)
    return int(value)


def wait_for_all(device: torch.device) -> None:
    """Until every rank has come here."""
    total(torch.zeros(1, device=device)).item()


def agree_on(what: int, device: torch.device) -> None:
    """Make sure that every rank has the same number as the first.

    Raises:
        StageFailed: this one has another.
    """
    if of_first(what, device) != what:
        raise StageFailed("It found another text or model than the first process, so they cannot train together.")


def _loopback() -> str:
    """The name of the interface of 127.0.0.1."""
    interfaces = psutil.net_if_addrs().items()
    return next((name for name, found in interfaces if any(each.address == "127.0.0.1" for each in found)), "lo")
