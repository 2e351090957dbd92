"""What an expert is worth, from the tokens that its mixture sees.

Each criterion is a ratio of two sums over tokens, so a mixture can be shown its text piece by piece. With f_j(x) what
expert j makes of a token, g_j(x) the gate as the family normalises it, and y(x) the sum of g_j(x) f_j(x) over the
chosen experts:

- reap: the mean of g_j(x) ‖f_j(x)‖₂ over the tokens that are sent to j (Lasby et al. 2025, arXiv 2510.13999);
- frequency: the share of all tokens that are sent to j;
- reconstruction: Σ ‖y(x) - y₋ⱼ(x)‖² / Σ ‖y(x)‖² over all tokens, where y₋ⱼ is what the mixture gives when its router
  has no row for j: another expert takes j's place if one is left, and the gates are normalised as ever. This is
  close to what Lu et al. 2024 (arXiv 2402.14800) search for, one expert at a time. Shared experts are left out of y.

An expert that no token is sent to is worth nothing by any of them but the last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.func import functional_call

_BYTES_AT_ONCE = 256 * 2**20  # of what all experts make of a piece of the tokens


@dataclass(frozen=True)
class Routed:
    """Tokens as a mixture sees them, and where its router sends them."""

    experts: nn.Module
    router: nn.Module
    smaller_router: nn.Module  # that of the model with one expert fewer, without weights
    router_rows: tuple[str, ...]  # the router's tensors with an entry for each expert
    count: int  # experts
    states: Tensor  # (tokens, hidden)
    chosen: Tensor  # (tokens, experts of a token), numbers
    gates: Tensor  # the same shape

    def output(self, expert: int, tokens: Tensor) -> Tensor:
        """f_j of the tokens with these numbers, (len(tokens), hidden): the expert alone, with a gate of one."""
        alone = torch.full((len(tokens), 1), expert, dtype=self.chosen.dtype, device=self.chosen.device)
        output: Tensor = self.experts.forward(
            self.states[tokens], alone, torch.ones_like(alone, dtype=self.gates.dtype)
        )
        return output

    def without(self, expert: int) -> tuple[Tensor, Tensor]:
        """Chosen experts and gates of a router that has no row for `expert`."""
        others = torch.tensor([j for j in range(self.count) if j != expert], device=self.states.device)
        tensors = dict(self.router.named_parameters()) | dict(self.router.named_buffers())
        cut = {name: tensors[name].index_select(0, others) for name in self.router_rows}
        _, gates, chosen = functional_call(self.smaller_router, tensors | cut, (self.states,))
        return others[chosen], gates

    def pieces(self, tokens: int) -> Iterator[Routed]:
        for at in range(0, len(self.states), tokens):
            part = slice(at, at + tokens)
            yield replace(self, states=self.states[part], chosen=self.chosen[part], gates=self.gates[part])


Sums = tuple[Tensor, Tensor]  # numerators and denominators, (experts,) each, fp64
Criterion = Callable[[Routed], Sums]


def reap(routed: Routed) -> Sums:
    weighted = torch.zeros(routed.count, dtype=torch.float64)
    for expert in range(routed.count):
        tokens, place = (routed.chosen == expert).nonzero(as_tuple=True)
        if len(tokens):
            norms = routed.output(expert, tokens).double().norm(dim=-1)
            weighted[expert] = (routed.gates[tokens, place].double() * norms).sum().cpu()
    return weighted, _tokens(routed)


def frequency(routed: Routed) -> Sums:
    return _tokens(routed), torch.full((routed.count,), float(len(routed.states)), dtype=torch.float64)


def reconstruction(routed: Routed) -> Sums:
    errors = torch.zeros(routed.count, dtype=torch.float64)
    energy = torch.zeros(routed.count, dtype=torch.float64)
    width = routed.states.shape[-1]
    at_once = _BYTES_AT_ONCE // (4 * (routed.count + 1) * (2 * width + routed.count))
    for piece in routed.pieces(max(1, at_once)):
        outputs = _with_and_without(piece)  # (tokens, 1 + experts, hidden)
        errors += (outputs[:, 1:] - outputs[:, :1]).double().square().sum((0, 2)).cpu()
        energy += outputs[:, 0].double().square().sum().cpu()
    return errors, energy


def _with_and_without(routed: Routed) -> Tensor:
    """What the mixture gives with all its experts, and without each of them, (tokens, 1 + experts, hidden)."""
    tokens, width = routed.states.shape
    weights = routed.gates.new_zeros((tokens, 1 + routed.count, routed.count), dtype=torch.float32)
    weights[:, 0].scatter_add_(1, routed.chosen, routed.gates.float())
    for expert in range(routed.count):
        chosen, gates = routed.without(expert)
        weights[:, 1 + expert].scatter_add_(1, chosen, gates.float())
    made = routed.states.new_zeros((tokens, routed.count, width), dtype=torch.float32)
    needed = weights.ne(0).any(1)  # (tokens, experts)
    for expert in range(routed.count):
        rows = needed[:, expert].nonzero().flatten()
        if len(rows):
            made[rows, expert] = routed.output(expert, rows).float()
    return torch.bmm(weights, made)


def _tokens(routed: Routed) -> Tensor:
    """How many tokens are sent to each expert, (experts,)."""
    return torch.bincount(routed.chosen.flatten().cpu(), minlength=routed.count).double()


CRITERIA: Mapping[str, Criterion] = {"reap": reap, "frequency": frequency, "reconstruction": reconstruction}
