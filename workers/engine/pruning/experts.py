"""Expert pruning: every mixture of experts loses the same number of them, and the checkpoint loads as it is.

Experts are judged in one walk over the original's blocks (`expert_criteria.py`), and nothing is rerun: each mixture is
judged on what the whole model sends it, as REAP has it (Lasby et al. 2025, arXiv 2510.13999). Then their tensors, or
their entries in stacked tensors, and their rows of the router are left out of the files, and the rest is copied
(`header_rewrite.py`). Shared experts and dense blocks stay. What is written is the model in which the router never
sees those that went: as if their logits were minus infinity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from secateur.contract.experts import check_experts, experts_to_remove
from secateur.contract.options.pruning import ExpertPruning
from workers.engine.checkpoints.checkpoint import CONFIG_FILE, Checkpoint
from workers.engine.checkpoints.json_file import write_json
from workers.engine.checkpoints.new_folder import new_folder
from workers.engine.checkpoints.parameters import count_parameters
from workers.engine.checkpoints.side_files import copy_side_files
from workers.engine.model.block_model import Block, BlockModel
from workers.engine.progress import Progress, no_progress
from workers.engine.pruning.expert_criteria import CRITERIA, Routed
from workers.engine.pruning.expert_layout import ExpertLayout, Mixture, expert_layout
from workers.engine.pruning.header_rewrite import write_renamed
from workers.engine.pruning.moments import through


@dataclass(frozen=True)
class ExpertPlan:
    """What can go, and the config of what is left."""

    layout: ExpertLayout
    left: int  # experts of each mixture
    config: dict[str, Any]  # as config.json will have it

    @property
    def per_token(self) -> int:
        return min(self.layout.per_token, self.left)


@dataclass(frozen=True)
class ExpertsPruned:
    """What each mixture kept, and what the model weighs."""

    kept: dict[int, list[int]]  # by block: numbers that the kept experts had, ascending
    scores: dict[int, list[float]]  # by block, of each expert of the original
    parameters_before: int
    parameters_after: int
    bytes_before: int  # of tensors
    bytes_after: int
    notes: list[str]


def plan_experts(checkpoint: Checkpoint, options: ExpertPruning) -> ExpertPlan:
    """What the options ask of this checkpoint, from its config and headers alone.

    Raises:
        InvalidInput: no expert would be left.
        UnsupportedModel: it is no mixture, or one whose experts are not found.
    """
    layout = expert_layout(checkpoint)
    check_experts(options, layout.count)
    left = layout.count - experts_to_remove(options, layout.count)
    return ExpertPlan(layout, left, layout.narrowed(left))


def prune_experts(
    source: Checkpoint,
    target: Path,
    *,
    plan: ExpertPlan,
    criterion: str,
    ids: Tensor,
    device: torch.device | str,
    dtype: torch.dtype,
    progress: Progress = no_progress,
) -> ExpertsPruned:
    """Write the checkpoint `source` with fewer experts into the new folder `target`.

    The folder appears under its name only when it is complete; after an error nothing is left.

    Args:
        plan: of this very source.
        criterion: name of what an expert is judged by.
        ids: (samples, tokens) calibration tokens.
        device, dtype: what the experts are judged in; the weights on disk keep their dtype.

    Raises:
        InvalidInput: the tokens are not the model's.
        BadCheckpoint: the source has changed since it was opened.
        StageFailed: the disk is full, or `target` exists.
    """
    layout = plan.layout
    model = BlockModel.from_checkpoint(source, device=device, dtype=dtype)
    scores = score_experts(model, layout, ids, criterion=criterion, progress=progress)
    kept = {block: strongest(values, plan.left) for block, values in scores.items()}
    with new_folder(target) as folder:
        write_renamed(
            source,
            folder,
            lambda name: layout.new_name(name, kept),
            rows=lambda name: layout.rows(name, kept),
            progress=progress,
        )
        copy_side_files(source.path, folder)
        write_json(folder / CONFIG_FILE, plan.config)
        pruned = Checkpoint.open(folder)
    return ExpertsPruned(
        kept=kept,
        scores={block: values.tolist() for block, values in scores.items()},
        parameters_before=count_parameters(source.config).total,
        parameters_after=count_parameters(pruned.config).total,
        bytes_before=source.total_bytes,
        bytes_after=pruned.total_bytes,
        notes=_notes(plan),
    )


@torch.no_grad()
def score_experts(
    model: BlockModel, layout: ExpertLayout, ids: Tensor, *, criterion: str, progress: Progress = no_progress
) -> dict[int, Tensor]:
    """What each expert is worth, by block, (experts,) each, fp64; in one walk over the blocks.

    Args:
        ids: (samples, tokens).
    """
    hidden = model.embed(model.check_ids(ids))
    smaller = layout.smaller_routers()
    found = {}
    for block in model.blocks():
        mixture = layout.mixtures.get(block.index)
        if mixture is None:
            hidden = through(block, hidden)
        else:
            above, below = (torch.zeros(layout.count, dtype=torch.float64) for _ in range(2))

            def gather(routed: Routed, above: Tensor = above, below: Tensor = below) -> None:
                numerators, denominators = CRITERIA[criterion](routed)
                above.add_(numerators)
                below.add_(denominators)

            with _watch(block, mixture, smaller[block.index], layout.count, gather):
                hidden = through(block, hidden)
            found[block.index] = torch.where(below > 0, above / below.clamp(min=torch.finfo(below.dtype).tiny), 0.0)
        progress(block.index + 1, model.n_blocks, "blocks")
    return found


def strongest(scores: Tensor, left: int) -> list[int]:
    """The numbers of the `left` highest scores, ascending; of equal ones the first."""
    order = scores.argsort(descending=True, stable=True)[:left]
    return sorted(order.tolist())


@contextmanager
def _watch(
    block: Block, mixture: Mixture, smaller: nn.Module, count: int, gather: Callable[[Routed], None]
) -> Iterator[None]:
    """Hand over what the block's experts are given while the context is open."""
    experts, router = (block.module.get_submodule(path) for path in (mixture.experts, mixture.router))
    own = f"{mixture.router}."
    rows = tuple(name.removeprefix(own) for name in mixture.rows if name.startswith(own))

    def hook(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        states, chosen, gates = (*args, *kwargs.values())  # in this order in every class of experts
        gather(Routed(experts, router, smaller, rows, count, states.reshape(-1, states.shape[-1]), chosen, gates))

    handle = experts.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _notes(plan: ExpertPlan) -> list[str]:
    if plan.per_token == plan.layout.per_token:
        return []
    return [
        f"A token goes to {plan.per_token} experts from now on, and not to {plan.layout.per_token}, since no more are "
        "left."
    ]
