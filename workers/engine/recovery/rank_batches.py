"""Which samples each rank trains on, so that every step sees exactly the samples that one process alone would.

`accelerate` shards a data loader by rounding the last batch of an epoch up with samples of the first one, which would
change what is learnt with the number of processes. Here the micro-batches of a step are dealt out to the ranks in turn,
as they are. A rank for which one is missing gets a blank one in its place, which weighs nothing: all ranks have to go
through the same number of backward passes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from accelerate.data_loader import SeedableRandomSampler
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from workers.engine.recovery.trainer import REAL_TOKENS


class RankBatches(Sampler[list[int]]):
    """The micro-batches of one rank, in the order of an epoch that one process alone would have."""

    def __init__(
        self, samples: Sequence[object], *, batch_size: int, micro_batch_size: int, rank: int, ranks: int, seed: int
    ) -> None:
        """`batch_size` is that of a step, over all ranks; blank micro-batches hold one negative number."""
        self._order = SeedableRandomSampler(samples, data_seed=seed)  # as `accelerate` orders those of one process
        self._samples, self._batch, self._micro = len(samples), batch_size, micro_batch_size
        self._rank, self._ranks = rank, ranks

    def set_epoch(self, epoch: int) -> None:
        """The order is another in each epoch."""
        self._order.set_epoch(epoch)

    def __len__(self) -> int:
        return sum(self._rounds(start) for start in range(0, self._samples, self._batch))

    def __iter__(self) -> Iterator[list[int]]:
        order = list(self._order)
        for start in range(0, self._samples, self._batch):
            step = order[start : start + self._batch]
            for number in range(self._rounds(start)):
                at = (number * self._ranks + self._rank) * self._micro
                yield step[at : at + self._micro] or [~step[0]]

    def _rounds(self, start: int) -> int:
        """How many micro-batches each rank has of the step that begins with this sample."""
        taken = min(self._batch, self._samples - start)
        return -(-taken // (self._micro * self._ranks))


class WithBlanks(Dataset[dict[str, Tensor]]):
    """Samples, and for the number ~i, blank ones: like sample i, with no token that counts."""

    def __init__(self, samples: Dataset[dict[str, Tensor]]) -> None:
        self._samples = samples

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if index >= 0:
            return self._samples[index]
        return {**self._samples[~index], REAL_TOKENS: torch.tensor(0)}


def held_batches(samples: int, *, micro_batch_size: int, rank: int, ranks: int) -> list[list[int]]:
    """The micro-batches of the held-out samples whose loss this rank takes: every so many, in order."""
    starts = range(rank * micro_batch_size, samples, ranks * micro_batch_size)
    return [list(range(start, min(start + micro_batch_size, samples))) for start in starts]
