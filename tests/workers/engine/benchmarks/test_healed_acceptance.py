"""What a target would take of a healed draft, against plain models whose layers are taken out by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from tests.fixtures.whole_job import tiny_llama
from workers.engine.benchmarks.healed_acceptance import HealedAcceptance
from workers.engine.benchmarks.statistics import mean_interval
from workers.engine.healing.judge import hold_out
from workers.engine.model.block_model import BlockModel


@pytest.fixture(name="ids", scope="module")
def _ids() -> Tensor:
    return torch.randint(3, 96, (20, 16), generator=torch.Generator().manual_seed(7))


@pytest.fixture(name="written", scope="module")
def _written() -> Tensor:
    found = torch.rand((20, 16), generator=torch.Generator().manual_seed(8)) < 0.6
    found[-1] = False  # a sample of a prompt alone
    return found


@torch.no_grad()
def plain(kept: list[int], ids: Tensor, written: Tensor) -> tuple[float, float | None, float | None]:
    model = tiny_llama(spread=0.1)
    model.train(False)
    shorter = copy.deepcopy(model)
    shorter.model.layers = nn.ModuleList(shorter.model.layers[block] for block in kept)
    for number, layer in enumerate(shorter.model.layers):
        layer.self_attn.layer_idx = number
    shorter.config.num_hidden_layers = len(kept)
    held, counted = hold_out(ids)[1], hold_out(written)[1]
    shares, weights = [], []
    for text, mine in zip(held.tolist(), counted.tolist(), strict=True):
        likeliest = shorter(input_ids=torch.tensor([text])).logits[0].argmax(-1).tolist()
        places = [place for place in range(1, len(text)) if mine[place]]
        if places:
            shares.append(sum(likeliest[place - 1] == text[place] for place in places) / len(places))
            weights.append(float(len(places)))
    return mean_interval(shares, weights=weights)


def own_text(kept: list[int], ids: Tensor) -> Tensor:
    """The samples with every third token as the whole model would go on, so that some are proposed rightly."""
    model = tiny_llama(spread=0.1).train(False)
    text = ids.clone()
    with torch.no_grad():
        for place in range(2, text.shape[1], 3):
            text[:, place] = model(input_ids=text[:, :place]).logits[:, -1].argmax(-1)
    return text


@pytest.mark.parametrize("kept", [[0, 1, 2, 3, 4, 5], [0, 1, 3, 5], [1, 2, 3]], ids=str)
def test_without_healing_it_is_what_the_shorter_model_proposes(ids: Tensor, written: Tensor, kept: list[int]) -> None:
    text = own_text(kept, ids)
    model = BlockModel.from_model(tiny_llama(spread=0.1))
    found = HealedAcceptance(model, text, written, heals=False, seed=0).of(kept)
    assert found == pytest.approx(plain(kept, text, written))
    assert found[0] > 0 or len(kept) < 6


def test_healing_changes_what_is_proposed_and_the_whole_model_is_never_healed(ids: Tensor, written: Tensor) -> None:
    text = own_text([], ids)
    bare, healed = (
        HealedAcceptance(BlockModel.from_model(tiny_llama(spread=0.1)), text, written, heals=heals, seed=0)
        for heals in (False, True)
    )
    assert healed.of(range(6)) == bare.of(range(6))
    assert healed.of([0, 1, 4, 5]) != bare.of([0, 1, 4, 5])
    assert healed.tokens == bare.tokens == (16 * 16, 4 * 16)
