"""How many heads and neurons go, against the search of all choices."""

from __future__ import annotations

import pytest
import torch

from secateur.contract.errors import InvalidInput
from secateur.contract.width import CLOSE, Budget, uniform_counts
from workers.engine.pruning.channels import Kept
from workers.engine.pruning.width_plan import strongest, threshold_counts

# LLaMA-7B: a head has 4 x 128 x 4,096 parameters, a neuron 3 x 4,096
LLAMA = Budget(
    before=6_738_415_616,
    fixed=6_738_415_616 - 32 * (32 * 4 * 128 * 4096 + 11_008 * 3 * 4096),
    group=4 * 128 * 4096,
    neuron=3 * 4096,
    blocks=32,
    groups=32,
    neurons=11_008,
    ratio=0.2,
)


def test_a_head_weighs_as_many_neurons_as_in_flap() -> None:
    assert LLAMA.group / LLAMA.neuron == pytest.approx(512 / 3)


def test_attention_and_mlp_lose_the_same_share() -> None:
    groups, neurons = uniform_counts(LLAMA, group_counts=range(1, 33), multiple=1)
    assert abs(LLAMA.reached(32 * groups, 32 * neurons) - 0.2) < 1e-4
    assert abs(groups / 32 - neurons / 11_008) < 1 / 32


def test_the_papers_quarter_of_the_middle_blocks_is_a_fifth() -> None:
    """LLM-Pruner: blocks 4 to 29 of 32 at 0.25 for 20 %."""
    groups, neurons = uniform_counts(LLAMA, group_counts=range(1, 33), multiple=1, blocks=26)
    assert 1 - groups / 32 == pytest.approx(0.25, abs=1 / 32)
    assert 1 - neurons / 11_008 == pytest.approx(0.25, abs=0.02)


def test_neurons_carry_what_heads_cannot() -> None:
    groups, neurons = uniform_counts(LLAMA, group_counts=(1, 2, 4, 8, 16, 32), multiple=128)
    assert groups == 32
    assert neurons % 128 == 0
    assert abs(LLAMA.reached(32 * groups, 32 * neurons) - 0.2) < CLOSE + 0.004


def test_out_of_reach() -> None:
    budget = Budget(before=1000, fixed=900, group=10, neuron=1, blocks=1, groups=5, neurons=50, ratio=0.5)
    with pytest.raises(InvalidInput, match=r"nearest ratio that can be reached is 0\.0890, with 1 head groups"):
        uniform_counts(budget, group_counts=range(1, 6), multiple=1)


@pytest.mark.parametrize("multiple", [1, 4])
def test_one_threshold_is_the_nearest_of_all(multiple: int) -> None:
    torch.manual_seed(1)
    groups, neurons = torch.randn(6, 8), torch.randn(6, 64)
    budget = Budget(before=10_000, fixed=2_000, group=60, neuron=8, blocks=6, groups=8, neurons=64, ratio=0.3)
    found = threshold_counts(budget, groups, neurons, multiple=multiple, keep_groups=False)
    error = abs(budget.reached(sum(g for g, _ in found), sum(n for _, n in found)) - 0.3)
    if multiple == 1:
        errors = []
        for level in torch.cat([groups.flatten(), neurons.flatten()]):
            kept = int((groups > level).sum(1).clamp(min=1).sum()), int((neurons > level).sum(1).clamp(min=1).sum())
            errors.append(abs(budget.reached(*kept) - 0.3))
        assert error <= min(errors) + 1e-12
    assert error < 0.005
    assert all(g >= 1 and n >= multiple and n % multiple == 0 for g, n in found)


def test_heads_that_must_stay() -> None:
    torch.manual_seed(1)
    budget = Budget(before=10_000, fixed=2_000, group=60, neuron=8, blocks=6, groups=8, neurons=64, ratio=0.2)
    found = threshold_counts(budget, torch.randn(6, 8), torch.randn(6, 64), multiple=1, keep_groups=True)
    assert {g for g, _ in found} == {8}


def test_equal_scores_keep_the_lower_number() -> None:
    assert strongest(torch.ones(4), torch.tensor([0.0, 2.0, 2.0, 3.0]), 2, 2) == Kept((0, 1), (1, 3))
