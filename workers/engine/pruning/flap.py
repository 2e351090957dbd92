"""FLAP: fluctuation-based pruning with bias compensation (An et al. 2023, arXiv 2312.11983).

A channel that hardly fluctuates can be replaced by its mean. So an input channel j of an output projection scores
WIFV_j = Var(X_j) Σ_i W_ij², and what its removal takes away on average goes into the projection's bias:
b += W[:, pruned] mean(X[pruned]).

Attention's scores are squared, both kinds are standardised per block, and a group scores the mean of its channels.
One threshold over all blocks then decides, in which a group weighs as many parameters as it has in neurons (512/3 of
them for a head of LLaMA-7B; here it follows from the shapes). The widths that come out differ by block; with `uniform`
every block keeps the same numbers, chosen within the block by the same scores.
"""

from __future__ import annotations

import torch
from torch import Tensor

from secateur.contract.options.width import FlapPruning
from secateur.contract.width import uniform_counts
from workers.engine.pruning.moments import sweep
from workers.engine.pruning.wanda_sp import output_weight
from workers.engine.pruning.width_plan import strongest, threshold_counts
from workers.engine.pruning.width_task import Choice, WidthTask


def choose(task: WidthTask[FlapPruning]) -> Choice:
    """What each block keeps, and the means that its biases are made of."""
    layout, options = task.layout, task.options
    groups, neurons, head_means, neuron_means = [], [], [], []
    for block, moments in sweep(task.model, layout, task.ids, progress=task.progress):
        heads = fluctuation(output_weight(block, layout, layout.attention_output), moments.heads.variance) ** 2
        groups.append(standardised(heads).view(layout.groups, -1).mean(1).cpu())
        down = fluctuation(output_weight(block, layout, layout.down), moments.neurons.variance)
        neurons.append(standardised(down).cpu())
        head_means.append(moments.heads.mean.cpu())
        neuron_means.append(moments.neurons.mean.cpu())
    if options.uniform:
        counts = [uniform_counts(task.budget, group_counts=task.group_counts, multiple=options.multiple)] * len(groups)
    else:
        counts = threshold_counts(
            task.budget,
            torch.stack(groups),
            torch.stack(neurons),
            multiple=options.multiple,
            keep_groups=len(task.group_counts) == 1,
        )
    kept = [strongest(g, n, *count) for g, n, count in zip(groups, neurons, counts, strict=True)]
    return Choice(kept, head_means, neuron_means) if options.compensate else Choice(kept)


def fluctuation(weight: Tensor, variance: Tensor) -> Tensor:
    """Var(X_j) Σ_i W_ij² of each input channel j.

    Args:
        weight: (out, in).
        variance: (in,), of the channels' activations over tokens.
    """
    return variance.to(weight.device) * weight.double().square().sum(0)


def standardised(scores: Tensor) -> Tensor:
    """Zero mean and unit (unbiased) standard deviation over the block's channels; all alike become zero."""
    deviation = scores.std()
    return (scores - scores.mean()) / deviation if deviation > 0 else torch.zeros_like(scores)


def compensation(weight: Tensor, mean: Tensor, kept: Tensor) -> Tensor:
    """W[:, pruned] mean(X[pruned]): what the pruned channels gave on average.

    Args:
        weight: (out, in), before pruning.
        mean: (in,), of the channels' activations.
        kept: (channels,), numbers of the input channels that stay.

    Returns:
        (out,), fp64.
    """
    pruned = torch.ones(mean.shape, dtype=torch.bool)
    pruned[kept] = False
    return weight[:, pruned].double() @ mean[pruned]
