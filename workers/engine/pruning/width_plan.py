"""Which heads and neurons stay, by their scores, and how many of each block where one threshold holds for all.

How many units make up the asked share of the parameters is `secateur/contract/width.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from secateur.contract.width import CLOSE, Budget, multiple_of
from workers.engine.pruning.channels import Kept


def threshold_counts(
    budget: Budget, groups: Tensor, neurons: Tensor, *, multiple: int, keep_groups: bool
) -> list[tuple[int, int]]:
    """Groups and neurons that each block keeps where one threshold holds for all, as in FLAP.

    Args:
        groups: (blocks, groups) scores that compare across blocks, and with those of neurons.
        neurons: (blocks, neurons) likewise.
        keep_groups: whether all groups stay.

    Every block keeps at least one group and `multiple` neurons.

    Raises:
        InvalidInput: the ratio is not reached.
    """
    levels = torch.cat([groups.flatten(), neurons.flatten()]).sort().values

    def counts(level: float, neuron_level: float) -> list[tuple[int, int]]:
        kept_groups = (groups > level).sum(1).clamp(min=1).tolist()
        kept_neurons = (neurons > neuron_level).sum(1).tolist()
        return [
            (budget.groups if keep_groups else g, multiple_of(n, multiple, budget.neurons))
            for g, n in zip(kept_groups, kept_neurons, strict=True)
        ]

    def error(found: list[tuple[int, int]]) -> float:
        return abs(_reached(budget, found) - budget.ratio)

    def neurons_alone(level: float, steps: Tensor, at: int) -> float:
        return _reached(budget, counts(level, float(steps[at])))

    levels = torch.cat([levels.new_tensor([-torch.inf]), levels])  # the first prunes nothing
    enough = _first(len(levels), lambda at: _reached(budget, counts(float(levels[at]), float(levels[at]))), budget)
    choices = [counts(float(levels[at]), float(levels[at])) for at in (enough, max(enough - 1, 0))]
    if min(map(error, choices)) > CLOSE:
        # a group is a large step: keep the threshold for groups, on either side of it, and move that of the neurons
        steps = torch.cat([levels[:1], neurons.flatten().sort().values])
        for level in (float(levels[enough]), float(levels[max(enough - 1, 0)])):
            at = _first(len(steps), partial(neurons_alone, level, steps), budget)
            choices += [counts(level, float(steps[i])) for i in (at, max(at - 1, 0))]
    found = min(choices, key=error)
    budget.check(sum(g for g, _ in found), sum(n for _, n in found))
    return found


def _reached(budget: Budget, counts: list[tuple[int, int]]) -> float:
    return budget.reached(sum(g for g, _ in counts), sum(n for _, n in counts))


def _first(count: int, reached: Callable[[int], float], budget: Budget) -> int:
    """The least of 0 … count-1 at which the ratio is reached, which grows with it; the last where it never is."""
    low, high = 0, count - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if reached(middle) < budget.ratio else (low, middle)
    return low


def strongest(groups: Tensor, neurons: Tensor, keep_groups: int, keep_neurons: int) -> Kept:
    """The units of one block with the highest scores; of equal ones, those with the lower number.

    Args:
        groups: (groups,) scores.
        neurons: (neurons,) scores.
    """

    def top(scores: Tensor, count: int) -> tuple[int, ...]:
        order = torch.sort(scores, descending=True, stable=True).indices[:count]
        return tuple(sorted(order.tolist()))

    return Kept(top(groups, keep_groups), top(neurons, keep_neurons))
