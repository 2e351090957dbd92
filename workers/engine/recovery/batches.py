"""Which samples each step trains on, and which of them each of several processes.

The order is another in each epoch and comes from the seed, so what a step sees follows from its number, and a training
that goes on needs to skip nothing. The micro-batches of a step are dealt out to the processes in turn. Where one is
left without, it gets a blank micro-batch, which weighs nothing: all go through the same number of passes, since they
exchange what they have in each. So every step sees exactly the samples that one process alone would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch


@dataclass(frozen=True)
class MicroBatch:
    """Samples that go through the model together."""

    rows: tuple[int, ...]
    blank: bool = False  # weighs nothing


@dataclass(frozen=True)
class Deal:
    """How the samples of a training are dealt out to one of its processes."""

    samples: int
    batch_size: int  # of a step, over all processes
    micro_batch_size: int
    seed: int
    rank: int = 0
    ranks: int = 1

    def of_step(self, step: int) -> list[MicroBatch]:
        """What this process does in a step, counted from 0 over all epochs; the last step of an epoch may be short."""
        epoch, number = divmod(step, -(-self.samples // self.batch_size))
        order = _order(self.samples, self.seed + epoch)
        return self._share(order[number * self.batch_size : (number + 1) * self.batch_size])

    def in_order(self) -> list[MicroBatch]:
        """What this process does where every sample is taken once, as they come."""
        return self._share(range(self.samples))

    def _share(self, rows: Sequence[int]) -> list[MicroBatch]:
        size = self.micro_batch_size
        pieces = [MicroBatch(tuple(rows[at : at + size])) for at in range(0, len(rows), size)]
        blanks = [MicroBatch((rows[0],), blank=True)] * (-len(pieces) % self.ranks)
        return [*pieces, *blanks][self.rank :: self.ranks]


@lru_cache(maxsize=1)  # a step asks for it, and an epoch has many
def _order(samples: int, seed: int) -> list[int]:
    order: list[int] = torch.randperm(samples, generator=torch.Generator().manual_seed(seed)).tolist()
    return order
