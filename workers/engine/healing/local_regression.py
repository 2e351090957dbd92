"""One block trained to give, on the pruned model's states, what the original has further on: no head and no teacher.

For blocks in which no change in closed form holds, since a norm follows the MLP or experts stand in its place. What is
added to the block's weights is trained by Adam to lessen the relative error of the states that leave it
(`state_error.py`): local distillation, as in Puzzle (Bercovich et al. 2024, arXiv 2411.19146). The changes are fp32,
whatever the block computes in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from secateur.contract.errors import StageFailed
from workers.engine.healing.projections import BlockChange
from workers.engine.healing.state_error import ChannelScale
from workers.engine.model.block_model import Block

CHECKS = 8  # so often the held-out error is taken; the best change is handed out
TOKENS_PER_STEP = 1024  # about, in whole samples


@dataclass(frozen=True)
class RegressionSettings:
    """How long and how freely."""

    epochs: int = 3  # over the samples to fit on
    learning_rate: float = 3e-4  # the peak, after a tenth of the steps; then a cosine to nothing
    rank: int | None = None  # of what is added to each matrix; None: any change


@dataclass(frozen=True)
class Regressed:
    """What a block is to add to its weights, and the relative error on held-out tokens without it and with it."""

    change: BlockChange
    left_before: float
    left_after: float


def regress(
    block: Block,
    fitted: tuple[Sequence[Tensor], Sequence[Tensor]],
    held: tuple[Sequence[Tensor], Sequence[Tensor]],
    *,
    trained: Callable[[str], bool],
    settings: RegressionSettings,
    seed: int,
    tell: Callable[[float], None],
) -> Regressed:
    """Fit the block's weights to states.

    Args:
        fitted: states that enter the block, in pieces of (samples, tokens, hidden), and those that should leave it.
        held: the same of samples that are not among them.
        trained: whether the parameter of this name within the block may change.
        tell: takes the share of the work that each step was.

    Raises:
        StageFailed: the error is not finite.
    """
    change = _Change(block.module, trained, settings.rank)
    samples = [(piece, row) for piece, states in enumerate(fitted[0]) for row in range(len(states))]
    per_step = max(1, TOKENS_PER_STEP // fitted[0][0].shape[1])
    steps = settings.epochs * math.ceil(len(samples) / per_step)
    optimizer = torch.optim.AdamW(change.parameters(), lr=settings.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _shape(step, steps))
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []
    scale = ChannelScale.of(fitted[1])
    before = best = change.error(block, held, scale)
    found: BlockChange = {}
    for step in range(1, steps + 1):
        if not order:
            order = torch.randperm(len(samples), generator=generator).tolist()
        taken, order = order[:per_step], order[per_step:]
        state, target = (torch.stack([side[samples[at][0]][samples[at][1]] for at in taken]) for side in fitted)
        with torch.enable_grad():
            loss = scale.error(change.run(block, state), target)
            loss.backward()  # type: ignore[no-untyped-call]  # no annotations upstream
        if not math.isfinite(loss.item()):
            raise StageFailed(f"The error of healing's regression is not finite at step {step} of {steps}.")
        nn.utils.clip_grad_norm_(list(change.parameters()), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        tell(1 / steps)
        if step % max(1, steps // CHECKS) == 0 or step == steps:
            left = change.error(block, held, scale)
            if left < best:
                best, found = left, change.now()
    return Regressed(found, before, best)


def _shape(step: int, steps: int) -> float:
    warmup = max(1, steps // 10)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


class _Change(nn.Module):
    """What is trained: for each parameter a tensor that is added to it, or the two factors of one of low rank."""

    def __init__(self, module: nn.Module, trained: Callable[[str], bool], rank: int | None) -> None:
        super().__init__()
        self._names = [name for name, _ in module.named_parameters() if trained(name)]
        self._factored = set()
        held: list[nn.Parameter] = []
        generator = torch.Generator().manual_seed(0)
        for name in self._names:
            weight = module.get_parameter(name)
            *stack, rows, columns = (1, *weight.shape)[-3 if weight.dim() > 2 else -2 :]
            if rank is None or weight.dim() < 2 or rank >= min(rows, columns):
                held.append(nn.Parameter(torch.zeros(weight.shape, device=weight.device)))
                continue
            self._factored.add(name)
            right = torch.randn((*stack, rank, columns), generator=generator) / math.sqrt(columns)
            held.append(nn.Parameter(torch.zeros((*stack, rows, rank), device=weight.device)))
            held.append(nn.Parameter(right.to(weight.device)))
        self._held = nn.ParameterList(held)

    def added(self) -> dict[str, Tensor]:
        """Parameter name → what is added to it."""
        parts = iter(self._held)
        return {name: next(parts) @ next(parts) if name in self._factored else next(parts) for name in self._names}

    def now(self) -> BlockChange:
        """The same, apart from the training, on the CPU."""
        return {name: tensor.detach().float().cpu().clone() for name, tensor in self.added().items()}

    def run(self, block: Block, state: Tensor) -> Tensor:
        """The block with the change, (samples, tokens, hidden) → the same shape."""
        weights = {
            name: (block.module.get_parameter(name).detach().float() + tensor).to(block.model.dtype)
            for name, tensor in self.added().items()
        }
        call = block.model.calls(state.shape[0], state.shape[1])[block.index]
        out = functional_call(block.module, weights, (state, *call.args), call.kwargs)
        found: Tensor = out[0] if isinstance(out, tuple) else out
        return found

    @torch.no_grad()
    def error(self, block: Block, held: tuple[Sequence[Tensor], Sequence[Tensor]], scale: ChannelScale) -> float:
        """The mean relative error over all tokens."""
        errors = [
            (float(scale.error(self.run(block, state), target)), state.shape[0] * state.shape[1])
            for state, target in zip(*held, strict=True)
        ]
        return sum(error * tokens for error, tokens in errors) / sum(tokens for _, tokens in errors)
