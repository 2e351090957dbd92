"""How far a hidden state is from the one that it should be: relative, by token and by channel.

A state is read through norms, each with weights of its own by channel. Neither tokens nor channels with large numbers
are worth more for it: a few tokens carry activations thousands of times those of all others (massive activations, Sun
et al. 2024, arXiv 2402.17762), and a few channels do (of Gemma 3 270M's 640 one has 85 % of the mean square). In a
plain sum of squares those are all that counts. So each channel is divided by its own variance over tokens, and each
token by its target's mean square after that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

_LEAST = 1e-30


@dataclass(frozen=True)
class ChannelScale:
    """What the square of each channel counts, (hidden,), fp32; their mean is 1."""

    weights: Tensor

    @classmethod
    def of(cls, targets: Iterable[Tensor]) -> ChannelScale:
        """From states, in pieces of (..., hidden); tokens count by the reciprocal of their mean square."""
        total: Tensor | None = None  # (3, hidden): of the weights, of weighted values, of weighted squares
        for piece in targets:
            values = piece.double().flatten(0, -2)
            weights = _reciprocal(values.square().mean(1)).unsqueeze(1).expand_as(values)
            sums = torch.stack([(weights * power).sum(0) for power in (torch.ones_like(values), values, values**2)])
            total = sums if total is None else total + sums
        assert total is not None
        count, first, second = total
        variance = second / count - (first / count).square()
        scale = _reciprocal(variance)
        return cls((scale / scale.mean()).float())

    def token_weights(self, target: Tensor) -> Tensor:
        """The reciprocal of each token's mean square: (tokens, hidden) → (tokens,), fp64."""
        squares = target.double().square() * self.weights.to(target.device)
        return _reciprocal(squares.mean(-1))

    def error(self, state: Tensor, target: Tensor) -> Tensor:
        """Mean over tokens of the squared distance over the target's own square; both (..., hidden)."""
        wanted, weights = target.float(), self.weights.to(target.device)
        lacking = ((state.float() - wanted).square() * weights).sum(-1)
        return (lacking / (wanted.square() * weights).sum(-1).clamp(min=_LEAST)).mean()


def _reciprocal(values: Tensor) -> Tensor:
    """Of each; one that is next to nothing, such as a dead channel's, is not worth more than all others."""
    return values.clamp(min=float(values.median()) * 1e-4 or _LEAST).reciprocal()
