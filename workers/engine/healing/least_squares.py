"""Weighted least squares for the change of a linear map, held to none: from sums over tokens, so memory is flat.

Δ = (XᵀWX + λI)⁻¹ XᵀWR for the map's inputs X, what its outputs lack R, and a weight for each token on W's diagonal. So
any number of tokens is one matrix of the inputs squared and one of inputs times outputs. The ridge λ is chosen on
tokens that are not among them, which stay as they are.

The square matrix is what takes memory: 1.6 GB of fp64 for an MLP of 14,336 neurons. Its Cholesky factor is therefore
written into the matrix's own lower triangle, panel by panel, while the upper one keeps the sums for the next ridge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from secateur.contract.errors import StageFailed

RIDGES = tuple(10.0**power for power in range(-5, 3))  # in units of the mean of XᵀWX's diagonal
AT_ONCE = 4096  # tokens that are turned to fp64 at a time
PANEL = 1024  # columns of the factor that are made at a time


@dataclass
class Sums:
    """Weighted sums over tokens, in fp64 on the device of what is added."""

    gram: Tensor | None = None  # XᵀWX, (inputs, inputs)
    cross: Tensor | None = None  # XᵀWR, (inputs, outputs)

    def add(self, x: Tensor, r: Tensor, weights: Tensor) -> None:
        """Add X (tokens, inputs), R (tokens, outputs) and the tokens' weights (tokens,)."""
        for start in range(0, len(x), AT_ONCE):
            span = slice(start, start + AT_ONCE)
            inputs, lacking = weighted(x[span], r[span], weights[span])
            if self.gram is None or self.cross is None:
                self.gram, self.cross = inputs.T @ inputs, inputs.T @ lacking
            else:
                self.gram.addmm_(inputs.T, inputs)
                self.cross.addmm_(inputs.T, lacking)


@dataclass
class HeldOut:
    """Tokens that a change is judged on, weighted, in fp32."""

    channels: Tensor  # (outputs,), what the square of each output counts
    x: list[Tensor] = field(default_factory=list)  # (tokens, inputs)
    r: list[Tensor] = field(default_factory=list)  # (tokens, outputs)

    def add(self, x: Tensor, r: Tensor, weights: Tensor) -> None:
        """As `Sums.add`."""
        inputs, lacking = weighted(x, r, weights)
        self.x.append(inputs.float())
        self.r.append(lacking.float())

    def mean_square(self, change: Tensor | None = None) -> float:
        """Σ w c (r - x Δ)² over the tokens and the outputs, for a change Δ, (inputs, outputs); of none: of r."""
        total = 0.0
        for x, r in zip(self.x, self.r, strict=True):
            left = r if change is None else r - x @ change.to(r.dtype)
            total += float((left.square() * self.channels.to(r.device)).sum(1).double().sum())
        return total / sum(r.numel() for r in self.r)


def weighted(x: Tensor, r: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Both in fp64, each token times the root of its weight."""
    root = weights.double().sqrt().unsqueeze(1)
    return x.double() * root, r.double() * root


@dataclass(frozen=True)
class FittedChange:
    """The change, and the weighted mean square on held-out tokens of what is left without it and with it."""

    change: Tensor  # Δ, (inputs, outputs), fp32 on the CPU
    ridge: float
    left_before: float
    left_after: float


def fit_change(
    fitted: Sums, held: HeldOut, *, ridge: float | None = None, ridges: Sequence[float] = RIDGES
) -> FittedChange:
    """The change of a map that brings X Δ nearest to R over the tokens of `fitted`.

    The sums are used up.

    Args:
        held: of tokens that are not among those.
        ridge: λ in units of the mean of XᵀWX's diagonal; None: the one of `ridges` that leaves least on `held`.

    Raises:
        StageFailed: the sums are not finite, or no ridge makes their matrix positive definite.
    """
    assert fitted.gram is not None
    assert fitted.cross is not None
    gram, cross = fitted.gram, fitted.cross
    diagonal = gram.diagonal().clone()
    if not (torch.isfinite(diagonal).all() and torch.isfinite(cross).all()):
        raise StageFailed('The states that healing is fitted on are not finite; try "dtype": "float32".')
    unit = float(diagonal.mean()) or 1.0
    before = held.mean_square()
    best: FittedChange | None = None
    for weight in ridges if ridge is None else (ridge,):
        if not factor_in_place(gram, diagonal + weight * unit):
            continue  # too small a ridge for so few tokens
        change = solve(gram, cross)
        left = held.mean_square(change)
        if best is None or left < best.left_after:
            best = FittedChange(change.float().cpu(), weight, before, left)
    if best is None:
        raise StageFailed("The states that healing is fitted on depend on each other: a greater `ridge` is needed.")
    return best


def factor_in_place(gram: Tensor, diagonal: Tensor) -> bool:
    """Write the Cholesky factor of a symmetric matrix into its lower triangle; whether it is positive definite.

    Args:
        gram: (n, n). Its strict upper triangle is read and stays; what stands below it is written over.
        diagonal: (n,), what the matrix has on its diagonal.
    """
    for start in range(0, len(gram), PANEL):
        stop = min(start + PANEL, len(gram))
        panel = gram[start:stop, start:].T.clone()  # (n - start, width): its square's lower triangle is the sums'
        width = stop - start
        panel[range(width), range(width)] = diagonal[start:stop]
        panel.addmm_(gram[start:, :start], gram[start:stop, :start].T, alpha=-1)
        square, failed = torch.linalg.cholesky_ex(panel[:width])  # reads the lower triangle alone
        if int(failed):
            return False
        gram[stop:, start:stop] = torch.linalg.solve_triangular(square.T, panel[width:], upper=True, left=False)
        gram[start:stop, start:stop].triu_(1).add_(square)
    return True


def solve(factored: Tensor, right: Tensor) -> Tensor:
    """L Lᵀ X = B for the factor that `factor_in_place` left: (n, columns) → (n, columns)."""
    found = right.clone()
    spans = [slice(start, min(start + PANEL, len(factored))) for start in range(0, len(factored), PANEL)]
    for span in spans:
        found[span].addmm_(factored[span, : span.start], found[: span.start], alpha=-1)
        found[span] = torch.linalg.solve_triangular(factored[span, span], found[span], upper=False)
    for span in reversed(spans):
        found[span].addmm_(factored[span.stop :, span].T, found[span.stop :], alpha=-1)
        found[span] = torch.linalg.solve_triangular(factored[span, span].T, found[span], upper=True)
    return found
