"""What each of several processes trains on, against what one process alone would."""

from __future__ import annotations

from itertools import zip_longest

import pytest
import torch

from workers.engine.recovery.batches import Deal

BATCH, MICRO = 12, 2


def deal(samples: int, rank: int = 0, ranks: int = 1) -> Deal:
    return Deal(samples, BATCH, MICRO, seed=5, rank=rank, ranks=ranks)


def steps_of_epoch(samples: int) -> int:
    return -(-samples // BATCH)


@pytest.mark.parametrize("samples", [1, 5, 12, 24, 29])
def test_an_epoch_takes_every_sample_once_in_an_order_of_its_seed(samples: int) -> None:
    for epoch in (0, 3):
        steps = [
            deal(samples).of_step(epoch * steps_of_epoch(samples) + number) for number in range(steps_of_epoch(samples))
        ]
        order = torch.randperm(samples, generator=torch.Generator().manual_seed(5 + epoch)).tolist()
        taken = [[row for each in step for row in each.rows] for step in steps]
        assert taken == [order[start : start + BATCH] for start in range(0, samples, BATCH)]
        assert all(len(each.rows) == MICRO for step in steps for each in step[:-1])


@pytest.mark.parametrize("ranks", [1, 2, 3, 6])
@pytest.mark.parametrize("samples", [1, 5, 12, 24, 29, 35])
def test_together_they_take_in_each_step_what_one_process_takes(samples: int, ranks: int) -> None:
    for step in range(3 * steps_of_epoch(samples)):
        alone = deal(samples).of_step(step)
        shares = [deal(samples, rank, ranks).of_step(step) for rank in range(ranks)]
        assert len({len(share) for share in shares}) == 1  # as many passes in each
        dealt = [each for turn in zip(*shares, strict=True) for each in turn]
        assert [each for each in dealt if not each.blank] == alone
        assert all(len(each.rows) == 1 for each in dealt if each.blank)
        assert len(dealt) - len(alone) < ranks


def test_each_epoch_has_an_order_of_its_own() -> None:
    first, again, second = (deal(24, 1, 2).of_step(step) for step in (0, 0, 2))
    assert first == again != second


@pytest.mark.parametrize("samples", [1, 4, 7])
def test_every_held_out_sample_is_measured_once(samples: int) -> None:
    shares = [deal(samples, rank, 3).in_order() for rank in range(3)]
    assert len({len(share) for share in shares}) == 1
    real = [each.rows for turn in zip_longest(*shares) for each in turn if not each.blank]
    assert [row for rows in real for row in rows] == list(range(samples))
    assert all(len(rows) == MICRO for rows in real[:-1])
