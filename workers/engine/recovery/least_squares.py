"""Weighted least squares for a map of hidden states, held to the identity: from sums over tokens, so memory is flat.

T = I + (MᵀWM + λI)⁻¹ MᵀW R with the residual R = target - M and a weight for each token on W's diagonal. The sums MᵀWM
and MᵀWR are all that fitting needs, and with Σ w‖r‖² all that judging needs:
Σ w‖r - m Δ‖² = Σ w‖r‖² - 2 tr(Δᵀ MᵀWR) + tr(Δᵀ MᵀWM Δ) for a change Δ of the map. So any number of tokens is one matrix
of the hidden size squared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.contract.errors import StageFailed

RIDGES = tuple(10.0**power for power in range(-5, 3))  # in units of the mean of MᵀWM's diagonal
AT_ONCE = 8192  # tokens that are turned to fp64 at a time


@dataclass(frozen=True)
class Sums:
    """Weighted sums over tokens, fp64 on the CPU."""

    gram: Tensor  # MᵀWM, (hidden, hidden)
    cross: Tensor  # MᵀWR, (hidden, hidden)
    square: float  # Σ w‖r‖²
    tokens: int

    def mean_square(self, change: Tensor | None = None) -> float:
        """Σ w‖r - m Δ‖² over the tokens and the hidden size, for a change Δ, (hidden, hidden); of none: of r."""
        total = self.square
        if change is not None:
            total += float((change * (self.gram @ change - 2 * self.cross)).sum())
        return max(total, 0.0) / (self.tokens * len(self.gram))


def sums(pieces: Iterable[tuple[Tensor, Tensor, Tensor]]) -> Sums:
    """Add up pieces of M, R, both (tokens, hidden), and the tokens' weights, (tokens,).

    Raises:
        StageFailed: they are not finite.
    """
    gram = cross = None
    square, tokens = 0.0, 0
    for whole_m, whole_r, whole_weights in pieces:
        for start in range(0, len(whole_m), AT_ONCE):
            span = slice(start, start + AT_ONCE)
            m, r, weights = whole_m[span].double(), whole_r[span].double(), whole_weights[span].double()
            turned = (m * weights.unsqueeze(1)).T
            gram = turned @ m if gram is None else gram + turned @ m
            cross = turned @ r if cross is None else cross + turned @ r
            square += float((r.square().sum(1) * weights).sum())
            tokens += len(m)
    assert gram is not None
    assert cross is not None
    found = Sums(gram.cpu(), cross.cpu(), square, tokens)
    if not (torch.isfinite(found.gram).all() and torch.isfinite(found.cross).all()):
        raise StageFailed('The states that healing is fitted on are not finite; try "dtype": "float32".')
    return found


@dataclass(frozen=True)
class FittedMap:
    """The map, and the weighted mean square on held-out tokens of what is left without it and with it."""

    map: Tensor  # T, (hidden, hidden), fp64 on the CPU
    ridge: float
    left_before: float
    left_after: float


def fit_map(fitted: Sums, held: Sums, *, ridge: float | None = None, ridges: Sequence[float] = RIDGES) -> FittedMap:
    """The map that brings M T nearest to the target over the tokens of `fitted`.

    Args:
        held: of tokens that are not among those.
        ridge: λ in units of the mean of MᵀWM's diagonal; None: the one of `ridges` that leaves least on `held`.
    """
    values, vectors = torch.linalg.eigh(fitted.gram)  # one decomposition serves every ridge
    values = values.clamp(min=0)
    unit = float(values.mean()) or 1.0
    turned = vectors.T @ fitted.cross

    def change(weight: float) -> Tensor:
        scaled: Tensor = vectors @ (turned / (values + weight * unit).unsqueeze(1))
        return scaled

    left = {weight: held.mean_square(change(weight)) for weight in (ridges if ridge is None else (ridge,))}
    best = min(left, key=lambda weight: left[weight])
    identity = torch.eye(len(values), dtype=torch.float64)
    return FittedMap(identity + change(best), best, held.mean_square(), left[best])
