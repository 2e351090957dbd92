"""LLM-Pruner: gradients on calibration text, summed to dependent groups (Ma et al. 2023, arXiv 2305.11627).

With g the gradient of the mean loss and H = Σ g_s² / N the diagonal of the Fisher information over N samples, a
weight matters as |w g| (`param_first`), |w² H| (`param_second`) or |w g − ½ w² H| (`param_mix`); `vectorize` takes
|Σ w g| over a whole row or column. What must go together is summed: the rows of the queries, keys and values of a
group and the columns of the output that reads them; the rows of gate and up of a neuron and its column of the
down-projection.

The paper prunes the blocks in the middle (4 to 29 of 32 of LLaMA-7B, a quarter of each for a fifth of the model),
which gives two widths; with `uniform` all blocks are pruned alike. Gradients are taken block by block, last to first,
from the block inputs that one forward sweep kept, so memory holds one block and its gradients.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from secateur.contract.errors import InvalidInput
from secateur.contract.options.width import LlmPrunerPruning
from secateur.contract.width import uniform_counts
from workers.engine.model.block_model import Block, BlockModel
from workers.engine.progress import Meter, Progress
from workers.engine.pruning.channels import Kept, Layout
from workers.engine.pruning.width_plan import strongest
from workers.engine.pruning.width_task import Choice, WidthTask


def choose(task: WidthTask[LlmPrunerPruning]) -> Choice:
    """The strongest groups and neurons of each block that is pruned."""
    layout, options = task.layout, task.options
    count = task.model.n_blocks
    first, last = options.whole_ends
    pruned = range(first, count - last)
    if not pruned:
        raise InvalidInput.field(
            "keep_first",
            f"The first {first} and the last {last} blocks are kept whole, and the model has {count}.",
            value=first,
            expected=f"`keep_first` and `keep_last` that leave some of {count} blocks",
        )
    groups, neurons = uniform_counts(
        task.budget, group_counts=task.group_counts, multiple=options.multiple, blocks=len(pruned)
    )
    scores = score_blocks(task.model, layout, task.ids, importance=options.importance, progress=task.progress)
    whole = Kept(tuple(range(layout.groups)), tuple(range(layout.neurons)))
    return Choice([strongest(*scores[b], groups, neurons) if b in pruned else whole for b in range(count)])


def weight_importance(weight: Tensor, gradient: Tensor, fisher: Tensor, *, importance: str) -> Tensor:
    """Importance of each weight; all tensors of one shape.

    Args:
        gradient: of the mean loss.
        fisher: mean over samples of the squared gradients of their losses.
        importance: `param_first`, `param_second`, `param_mix`, or `vectorize`, whose absolute value is not taken yet.
    """
    first, second = weight * gradient, weight.square() * fisher
    if importance == "vectorize":
        return first
    return {"param_first": first, "param_second": second, "param_mix": first - 0.5 * second}[importance].abs()


def block_scores(
    layout: Layout,
    weights: dict[str, Tensor],
    gradients: dict[str, Tensor],
    fishers: dict[str, Tensor],
    *,
    importance: str,
) -> tuple[Tensor, Tensor]:
    """Sums over each group, (groups,), and over each neuron, (neurons,), of one block's matrices, by parameter name."""
    totals = {
        "group": torch.zeros(layout.groups, dtype=torch.float64),
        "neuron": torch.zeros(layout.neurons, dtype=torch.float64),
    }
    for cut in layout.cuts:
        if cut.name not in weights:
            continue
        each = weight_importance(
            weights[cut.name], gradients[cut.name], fishers[cut.name], importance=importance
        )  # (out, in), or turned
        channels = each.double().sum(1 - cut.axis).abs().cpu()  # of what is positive already, abs changes nothing
        for unit, sums in layout.per_unit(cut, channels):
            totals[unit] += sums
    return totals["group"], totals["neuron"]


def score_blocks(
    model: BlockModel, layout: Layout, ids: Tensor, *, importance: str, progress: Progress
) -> list[tuple[Tensor, Tensor]]:
    """Scores of groups and neurons of every block, by a forward and a backward sweep over the blocks.

    Args:
        ids: (samples, tokens).
    """
    meter = Meter(progress, 4 * model.n_blocks + 3 * model.head_worth, "block passes")  # a gradient is worth two
    ids = model.check_ids(ids)
    inputs: list[Tensor] = []  # the state before each block, on the CPU
    with torch.no_grad():
        hidden = model.embed(ids)
        for block in model.blocks():
            inputs.append(hidden.cpu())
            hidden = torch.cat([block(hidden[s : s + 1]) for s in range(len(hidden))])
            meter.add(1)
    slopes: list[Tensor] = []
    for sample in range(len(ids)):
        slopes.append(_head_gradient(model, hidden[sample : sample + 1], ids[sample : sample + 1]))
        meter.add(3 * model.head_worth / len(ids))
    upstream = torch.cat(slopes)
    found: list[tuple[Tensor, Tensor]] = []
    for block in model.blocks(range(model.n_blocks - 1, -1, -1)):
        names = [cut.name for cut in layout.cuts if block.module.get_parameter(cut.name).dim() == 2]
        gradients, fishers, upstream = _backward(block, inputs.pop().to(model.device), upstream, names)
        weights = {name: block.module.get_parameter(name).detach().float() for name in names}
        found.append(block_scores(layout, weights, gradients, fishers, importance=importance))
        meter.add(3)
    return found[::-1]


def _head_gradient(model: BlockModel, hidden: Tensor, ids: Tensor) -> Tensor:
    """Gradient of one sample's mean next-token loss by the state that leaves the last block, (1, tokens, hidden)."""
    targets = ids[0, 1:]
    leaf = hidden.detach().requires_grad_()
    gradient = torch.zeros_like(hidden)
    with torch.enable_grad():
        for rows, logits in model.head_chunks(leaf[:, :-1]):
            part = F.cross_entropy(logits.float(), targets[rows], reduction="sum") / targets.numel()
            gradient += torch.autograd.grad(part, leaf)[0]
    return gradient


def _backward(
    block: Block, hidden: Tensor, upstream: Tensor, names: list[str]
) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """Gradient of the mean loss and mean squared gradient by each named weight, and the samples' gradients below.

    Args:
        hidden: (samples, tokens, hidden), the block's input.
        upstream: the same shape, each sample's own loss by the block's output.
    """
    weights = [block.module.get_parameter(name) for name in names]
    gradients = [torch.zeros_like(weight, dtype=torch.float32) for weight in weights]
    fishers = [torch.zeros_like(total) for total in gradients]
    below = torch.empty_like(hidden)
    samples = hidden.shape[0]
    asked = [weight.requires_grad for weight in weights]
    try:
        for weight in weights:
            weight.requires_grad_(True)
        for s in range(samples):
            part = hidden[s : s + 1].detach().requires_grad_()
            with torch.enable_grad():
                out = block(part)
            slopes = torch.autograd.grad(out, [part, *weights], upstream[s : s + 1])
            below[s : s + 1] = slopes[0]
            for gradient, fisher, slope in zip(gradients, fishers, slopes[1:], strict=True):
                gradient += slope.float() / samples
                fisher += slope.float().square() / samples
    finally:
        for weight, before in zip(weights, asked, strict=True):
            weight.requires_grad_(before)
    return dict(zip(names, gradients, strict=True)), dict(zip(names, fishers, strict=True)), below
