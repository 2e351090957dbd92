"""How many units go, so that the model loses the asked share of its parameters, and which by their scores.

The ratio is of *all* parameters of the model, embeddings included, as it is counted in the papers ("20 % pruned" of
LLaMA-7B is 6.7 → 5.4 B). Attention and MLP are asked for the same share, as near as whole groups allow; neurons are
small, so they make up the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from secateur.contract.errors import InvalidInput
from workers.engine.pruning.channels import Kept

TOLERANCE = 0.01  # the reached ratio lies within so much of the asked one, or the job is refused
CLOSE = 0.0025  # choices within so much of the ratio are as good as one another; the more even one wins


@dataclass(frozen=True)
class Budget:
    """The parameters of a model in terms of its units, biases that pruning adds included."""

    before: int  # of the whole model
    fixed: int  # of what no unit holds, after pruning
    group: int  # of one group of one block
    neuron: int
    blocks: int
    groups: int  # of each block, before
    neurons: int
    ratio: float  # asked

    @property
    def target(self) -> float:
        """Parameters that should be left."""
        return self.before * (1 - self.ratio)

    def reached(self, groups: int, neurons: int) -> float:
        """The ratio where so many groups and neurons are left in all blocks together."""
        return 1 - (self.fixed + groups * self.group + neurons * self.neuron) / self.before

    def check(self, groups: int, neurons: int, *, why: str = "") -> None:
        """Raise InvalidInput where the asked ratio is not reached."""
        reached = self.reached(groups, neurons)
        if abs(reached - self.ratio) > TOLERANCE:
            raise InvalidInput.field(
                "ratio",
                f"The nearest ratio that can be reached is {reached:.4f}{why}.",
                value=self.ratio,
                expected=f"a ratio within {TOLERANCE} of what whole heads and neurons can make up",
            )


def uniform_counts(
    budget: Budget, *, group_counts: Sequence[int], multiple: int, blocks: int | None = None
) -> tuple[int, int]:
    """Groups and neurons that each of the pruned blocks keeps.

    Args:
        group_counts: numbers of groups to choose from.
        multiple: neurons come in multiples of it, unless none go.
        blocks: how many blocks are pruned; the others stay whole. All by default.

    Raises:
        InvalidInput: no choice comes within `TOLERANCE` of the ratio.
    """
    blocks = budget.blocks if blocks is None else blocks
    whole = budget.blocks - blocks
    widest = blocks * (budget.groups * budget.group + budget.neurons * budget.neuron)
    goal = budget.target - budget.fixed - whole * (budget.groups * budget.group + budget.neurons * budget.neuron)
    share = min(1.0, max(0.0, goal / widest))  # of each kind of unit that should stay
    choices = []
    for groups in group_counts:
        exact = (goal / blocks - groups * budget.group) / budget.neuron
        for neurons in {_multiple(exact + step * multiple, multiple, budget.neurons) for step in (-0.5, 0, 0.5)}:
            totals = blocks * groups + whole * budget.groups, blocks * neurons + whole * budget.neurons
            error = abs(budget.reached(*totals) - budget.ratio)
            uneven = abs(groups / budget.groups - share)
            choices.append((error if error > min(CLOSE, budget.ratio / 10) else 0.0, uneven, error, groups, neurons))
    _, _, _, groups, neurons = min(choices)
    totals = blocks * groups + whole * budget.groups, blocks * neurons + whole * budget.neurons
    budget.check(*totals, why=f", with {groups} head groups and {neurons} neurons in {blocks} blocks")
    return groups, neurons


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
            (budget.groups if keep_groups else g, _multiple(n, multiple, budget.neurons))
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


def _multiple(wanted: float, multiple: int, neurons: int) -> int:
    """The multiple nearest to `wanted`, or all neurons where that is nearer or less is not to be had."""
    rounded = max(multiple, round(wanted / multiple) * multiple)
    return neurons if rounded >= neurons or abs(neurons - wanted) < abs(rounded - wanted) else rounded
