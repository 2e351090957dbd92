"""The proxy for a recovery: its distances against plain ones of a model whose layers are taken out by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from tests.fixtures.whole_job import tiny_llama
from workers.engine.benchmarks.healed_distance import HealedDistance
from workers.engine.benchmarks.statistics import mean_interval
from workers.engine.healing.judge import hold_out
from workers.engine.healing.walk import HealingSettings, fit_healing
from workers.engine.model.block_model import BlockModel

BLOCKS = 6


@pytest.fixture(name="ids", scope="module")
def _ids() -> Tensor:
    return torch.randint(3, 96, (20, 16), generator=torch.Generator().manual_seed(7))


@torch.no_grad()
def plain(kept: list[int], ids: Tensor) -> tuple[list[float], list[float]]:
    """KL and agreement by sample, of all held-out positions, by whole models."""
    model = tiny_llama(spread=0.1)
    model.train(False)
    shorter = copy.deepcopy(model)
    shorter.model.layers = nn.ModuleList(shorter.model.layers[block] for block in kept)
    for number, layer in enumerate(shorter.model.layers):
        layer.self_attn.layer_idx = number
    shorter.config.num_hidden_layers = len(kept)
    held = hold_out(ids)[1]
    expected, actual = (one(input_ids=held).logits.double().log_softmax(-1) for one in (model, shorter))
    kl = (expected.exp() * (expected - actual)).sum(-1).mean(-1)
    same = (expected.argmax(-1) == actual.argmax(-1)).double().mean(-1)
    return kl.tolist(), same.tolist()


def proxy(ids: Tensor, *, heals: bool) -> HealedDistance:
    return HealedDistance(BlockModel.from_model(tiny_llama(spread=0.1)), ids, heals=heals, seed=0)


@pytest.mark.parametrize("kept", [[0, 1, 2, 3, 4, 5], [0, 1, 3, 5], [1, 2, 3]], ids=str)
def test_without_healing_it_is_the_plain_distance(ids: Tensor, kept: list[int]) -> None:
    found = proxy(ids, heals=False).distance(kept)
    kl, same = plain(kept, ids)
    assert found.kl == pytest.approx(mean_interval(kl), rel=1e-3, abs=1e-6)
    assert found.top1_agreement == pytest.approx(mean_interval(same))


def test_healing_brings_it_nearer_as_healing_says(ids: Tensor) -> None:
    kept = [0, 1, 4, 5]
    bare, healed = (proxy(ids, heals=heals).distance(kept) for heals in (False, True))
    settings = HealingSettings(refit="none")
    fit = fit_healing(BlockModel.from_model(tiny_llama(spread=0.1)), kept, ids, settings=settings)
    assert bare.kl[0] == pytest.approx(fit.cuts[0].kl_before, rel=1e-3)
    assert healed.kl[0] == pytest.approx(min(fit.cuts[-1].kl_before, fit.cuts[-1].kl_after), rel=1e-3)
    assert healed.kl[0] < bare.kl[0]


def test_it_counts_its_tokens(ids: Tensor) -> None:
    assert proxy(ids, heals=True).tokens == (16 * 16, 4 * 16)
