"""How many heads and neurons width pruning leaves, so that the model loses the asked share of its parameters.

The ratio is of *all* parameters of the model, embeddings included, as it is counted in the papers ("20 % pruned" of
LLaMA-7B is 6.7 → 5.4 B). Attention and MLP are asked for the same share, as near as whole groups allow; neurons are
small, so they make up the rest. Which of them stay is the affair of the methods (`workers/engine/pruning/`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from secateur.contract.errors import InvalidInput

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
        for neurons in {multiple_of(exact + step * multiple, multiple, budget.neurons) for step in (-0.5, 0, 0.5)}:
            totals = blocks * groups + whole * budget.groups, blocks * neurons + whole * budget.neurons
            error = abs(budget.reached(*totals) - budget.ratio)
            uneven = abs(groups / budget.groups - share)
            choices.append((error if error > min(CLOSE, budget.ratio / 10) else 0.0, uneven, error, groups, neurons))
    _, _, _, groups, neurons = min(choices)
    totals = blocks * groups + whole * budget.groups, blocks * neurons + whole * budget.neurons
    budget.check(*totals, why=f", with {groups} head groups and {neurons} neurons in {blocks} blocks")
    return groups, neurons


def multiple_of(wanted: float, multiple: int, neurons: int) -> int:
    """The multiple nearest to `wanted`, or all neurons where that is nearer or less is not to be had."""
    rounded = max(multiple, round(wanted / multiple) * multiple)
    return neurons if rounded >= neurons or abs(neurons - wanted) < abs(rounded - wanted) else rounded
