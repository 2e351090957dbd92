"""What each of several processes trains on, against what one process alone would."""

from __future__ import annotations

from itertools import zip_longest

import pytest
import torch
from accelerate.data_loader import SeedableRandomSampler
from torch.utils.data import BatchSampler

from workers.engine.recovery.rank_batches import RankBatches, WithBlanks, held_batches
from workers.engine.recovery.trainer import REAL_TOKENS
from workers.engine.recovery.training import Sequences

BATCH, MICRO = 12, 2


def batches_of(samples: int, rank: int, ranks: int, epoch: int = 0) -> RankBatches:
    found = RankBatches(range(samples), batch_size=BATCH, micro_batch_size=MICRO, rank=rank, ranks=ranks, seed=5)
    found.set_epoch(epoch)
    return found


@pytest.mark.parametrize("ranks", [1, 2, 3, 6])
@pytest.mark.parametrize("samples", [1, 5, 12, 24, 29, 35])
def test_together_they_take_in_each_step_what_one_process_takes(samples: int, ranks: int) -> None:
    order = SeedableRandomSampler(range(samples), data_seed=5)
    order.set_epoch(3)
    alone = list(BatchSampler(order, MICRO, drop_last=False))
    steps = [alone[start : start + BATCH // MICRO] for start in range(0, len(alone), BATCH // MICRO)]
    shares = [list(batches_of(samples, rank, ranks, epoch=3)) for rank in range(ranks)]
    assert {len(share) for share in shares} == {len(batches_of(samples, 0, ranks))}
    rounds = BATCH // MICRO // ranks
    for number, step in enumerate(steps):
        parts = [share[number * rounds : (number + 1) * rounds] for share in shares]
        dealt = [batch for turn in zip_longest(*parts) for batch in turn]
        real = [batch for batch in dealt if batch[0] >= 0]
        assert real == step
        assert all(len(batch) == 1 for batch in dealt if batch[0] < 0)
        assert len(dealt) - len(real) < ranks


def test_each_epoch_has_an_order_of_its_own() -> None:
    first, again, second = (list(batches_of(24, 1, 2, epoch)) for epoch in (0, 0, 1))
    assert first == again != second


def test_a_blank_sample_is_like_another_and_counts_no_token() -> None:
    data = Sequences(torch.arange(12).view(3, 4))
    blank, like = WithBlanks(data)[~2], WithBlanks(data)[2]
    assert torch.equal(blank["input_ids"], data[2]["input_ids"])
    assert (int(blank[REAL_TOKENS]), int(like[REAL_TOKENS])) == (0, 4)


@pytest.mark.parametrize("samples", [1, 4, 7])
def test_every_held_out_sample_is_measured_once(samples: int) -> None:
    shares = [held_batches(samples, micro_batch_size=2, rank=rank, ranks=3) for rank in range(3)]
    alone = list(BatchSampler(range(samples), 2, drop_last=False))
    assert [batch for turn in zip_longest(*shares) for batch in turn if batch] == alone
