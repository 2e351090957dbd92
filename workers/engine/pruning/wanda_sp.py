"""Wanda-sp: weights times activations, summed to whole heads and neurons, the same share in every block.

Wanda (Sun et al. 2023, arXiv 2306.11695) scores a single weight by |W_ij| ‖X_j‖₂; the structured variant that FLAP
(An et al. 2023, arXiv 2312.11983) compares with scores an input channel j of the output projections by
mean_i |W_ij| ‖X_j‖₂, and a head by the sum of its channels. As in Wanda, a block is pruned before its output is passed
on, so later blocks are judged by what they will see.
"""

from __future__ import annotations

import torch
from torch import Tensor

from secateur.contract.options.width import WandaSpPruning
from secateur.contract.width import uniform_counts
from workers.engine.model.block_model import Block
from workers.engine.pruning.channels import Cut, Kept, Layout
from workers.engine.pruning.moments import BlockMoments, sweep
from workers.engine.pruning.width_plan import strongest
from workers.engine.pruning.width_task import Choice, WidthTask


def choose(task: WidthTask[WandaSpPruning]) -> Choice:
    """The strongest groups and neurons of each block, the same number in all."""
    groups, neurons = uniform_counts(task.budget, group_counts=task.group_counts, multiple=task.options.multiple)
    kept = []
    for block, moments in sweep(task.model, task.layout, task.ids, progress=task.progress, rerun=True):
        scores = block_scores(block, task.layout, moments)
        kept.append(strongest(*scores, groups, neurons))
        silence(block, task.layout, kept[-1])
    return Choice(kept)


def channel_importance(weight: Tensor, norm: Tensor) -> Tensor:
    """mean_i |W_ij| ‖X_j‖₂ of each input channel j.

    Args:
        weight: (out, in).
        norm: (in,), L2 norms of the channels' activations.
    """
    return weight.double().abs().mean(0) * norm.to(weight.device)


def block_scores(block: Block, layout: Layout, moments: BlockMoments) -> tuple[Tensor, Tensor]:
    """Scores of one block's groups, (groups,), and neurons, (neurons,)."""
    heads, neurons = (output_weight(block, layout, path) for path in (layout.attention_output, layout.down))
    by_group = channel_importance(heads, moments.heads.norm)
    return group_sums(layout, by_group), channel_importance(neurons, moments.neurons.norm).cpu()


def output_weight(block: Block, layout: Layout, path: str) -> Tensor:
    """The weight of an output projection as (out, in), however the family stores it."""
    weight = block.module.get_submodule(path).get_parameter("weight").detach()
    return weight.T if layout.transposed else weight


def group_sums(layout: Layout, channels: Tensor) -> Tensor:
    """Per channel of the heads, (heads x head_dim,), to the sum over each group, (groups,)."""
    return channels.view(layout.groups, -1).sum(1).cpu()


def silence(block: Block, layout: Layout, kept: Kept) -> None:
    """Zero what is pruned where it enters the output projections: the block then computes as its pruned self will."""
    for cut in layout.cuts:
        if cut.name in (f"{layout.attention_output}.weight", f"{layout.down}.weight"):
            _zero_but(block, layout, cut, kept)


def _zero_but(block: Block, layout: Layout, cut: Cut, kept: Kept) -> None:
    weight = block.module.get_parameter(cut.name)
    gone = torch.ones(weight.shape[cut.axis], dtype=torch.bool, device=weight.device)
    gone[layout.index(cut, kept).to(weight.device)] = False
    with torch.no_grad():
        weight.index_fill_(cut.axis, gone.nonzero().flatten(), 0.0)
