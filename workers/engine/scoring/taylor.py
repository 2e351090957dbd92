"""First-order estimate of what a block's weights mean to the loss, in the memory of one block; the lowest go first.

Shortened LLaMA (Kim et al. 2024, arXiv 2402.02834), section 3.2, after LLM-Pruner (arXiv 2305.11627): the sum of
|w x dL/dw| over the block's linear and norm weights, L the mean next-token loss over all calibration tokens in one
batch. Gradients of parts of the batch add up with their signs before the absolute value is taken.

Backpropagation through the whole model would hold all weights and all activations ("around 80G" for 7B). Here a
forward sweep keeps each block's input and nothing else; a backward sweep then takes the blocks last to first, runs
each once more with gradients, and hands the gradient of its input on. One block of weights and of their gradients is
in memory at a time, so a deeper model costs only its block inputs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from secateur.contract.options.scoring import TaylorScoring
from workers.engine.model.block_model import Block, BlockModel
from workers.engine.progress import Meter
from workers.engine.scoring.intact_states import rows_at_once, stream
from workers.engine.scoring.result import BlockScores
from workers.engine.scoring.task import ScoringTask


def score(task: ScoringTask[TaylorScoring]) -> BlockScores:
    """Sum of |w x dL/dw| per block.

    The calibration tokens are one batch, and nothing is random.
    """
    model, tokens = task.model, task.tokens()
    meter = Meter(task.progress, 4 * model.n_blocks + 3 * model.head_worth, "block passes")  # a gradient is worth two
    inputs: list[Tensor] = []  # the state before each block, (samples, tokens, hidden), on the CPU
    for depth, hidden in stream(model, tokens):
        if depth < model.n_blocks:
            inputs.append(hidden.cpu())
        meter.add(depth > 0)
    loss, gradient = _head_gradient(model, hidden, tokens, meter)
    del hidden
    values: list[float | None] = [None] * model.n_blocks
    for block in model.blocks(range(model.n_blocks - 1, -1, -1)):
        values[block.index], gradient = _backward(block, inputs.pop().to(model.device), gradient)
        meter.add(3)
    return BlockScores.lowest_first(values, details={"loss": loss})


def _head_gradient(model: BlockModel, hidden: Tensor, ids: Tensor, meter: Meter) -> tuple[float, Tensor]:
    """Mean next-token loss, and its gradient by the state that leaves the last block, piece by piece."""
    targets = ids[:, 1:].reshape(-1)
    scored = hidden[:, :-1]
    slopes = torch.empty((targets.numel(), hidden.shape[-1]), dtype=hidden.dtype, device=hidden.device)
    loss = 0.0
    for rows, piece in model.head_pieces(scored):
        leaf = piece.detach().requires_grad_()
        with torch.enable_grad():
            logits = model.head(leaf).flatten(0, 1)
            part = F.cross_entropy(logits.float(), targets[rows], reduction="sum") / targets.numel()
        slopes[rows] = torch.autograd.grad(part, leaf)[0].flatten(0, 1)
        loss += float(part.detach())
        meter.add(3 * model.head_worth * (rows.stop - rows.start) / targets.numel())
    return loss, F.pad(slopes.view_as(scored), (0, 0, 0, 1))  # the last token predicts nothing


def _backward(block: Block, hidden: Tensor, gradient: Tensor) -> tuple[float, Tensor]:
    """Sum of |w x dL/dw| of one block, and dL/d(input).

    Args:
        hidden: (samples, tokens, hidden), the block's input.
        gradient: the same shape, dL/d(output).
    """
    weights = [weight for _, weight in block.weights()]
    asked = [weight.requires_grad for weight in weights]
    totals: list[Tensor] = [torch.zeros_like(weight, dtype=torch.float32) for weight in weights]
    below = torch.empty_like(hidden)
    rows = rows_at_once(hidden)
    try:
        for weight in weights:
            weight.requires_grad_(True)
        for at in range(0, hidden.shape[0], rows):
            part = hidden[at : at + rows].detach().requires_grad_()
            with torch.enable_grad():
                out = block(part)
            # an expert that no token was sent to has no gradient
            found = torch.autograd.grad(out, [part, *weights], gradient[at : at + rows], allow_unused=True)
            below[at : at + rows] = found[0]
            for total, slope in zip(totals, found[1:], strict=True):
                if slope is not None:
                    total += slope
    finally:
        for weight, before in zip(weights, asked, strict=True):
            weight.requires_grad_(before)
    value = sum(
        float((weight.detach().float() * total).abs().sum(dtype=torch.float64))
        for weight, total in zip(weights, totals, strict=True)
    )
    return value, below
