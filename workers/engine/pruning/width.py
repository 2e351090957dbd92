"""Width pruning: every block stays, with fewer heads and neurons. What depth pruning is compared with.

The methods say which units stay (`wanda_sp.py`, `flap.py`, `llm_pruner.py`); this module gives them the model, streamed
from disk, and writes what they chose. A model whose blocks keep the same numbers of heads and neurons is written with
those numbers in its config, and loads in transformers as it is. One whose blocks differ, or which has biases that its
family does not know, gets the model type "secateur", so that no other program loads it by mistake, and a small file
beside the weights that loads it (`modeling_secateur.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from secateur.contract.models.architecture import Architecture
from secateur.contract.options.width import WidthPruning
from secateur.contract.width import Budget
from workers.engine.architectures.config import as_config
from workers.engine.architectures.discovery import skeleton
from workers.engine.architectures.registry import architecture_of
from workers.engine.checkpoints.checkpoint import CONFIG_FILE, Checkpoint
from workers.engine.checkpoints.json_file import write_json
from workers.engine.checkpoints.new_folder import new_folder
from workers.engine.checkpoints.own_loader import add_loader, loader_config
from workers.engine.checkpoints.parameters import count_parameters
from workers.engine.checkpoints.side_files import copy_side_files
from workers.engine.model.block_model import BlockModel
from workers.engine.progress import Progress, no_progress
from workers.engine.pruning.channels import Kept, Layout, layout_of
from workers.engine.pruning.depth import stack_of
from workers.engine.pruning.width_config import Biases, WidthConfig
from workers.engine.pruning.width_rewrite import Rewrite, added_shapes
from workers.engine.pruning.width_task import Choice, WidthTask, choose_units

NO_BIASES = Biases((), (), ())


@dataclass(frozen=True)
class WidthPlan:
    """What a width method may choose from, and what it costs."""

    architecture: Architecture
    layout: Layout
    widths: WidthConfig
    counts: tuple[int, ...]  # of groups that a block may keep
    biases: Biases
    added: dict[str, str]  # biases that every block gets → the weights of their modules
    budget: Budget


@dataclass(frozen=True)
class WidthPruned:
    """What each block kept, and what the model weighs."""

    kept: list[Kept]  # of each block, by their old numbers
    groups: list[int]  # key-value heads of each block
    queries: int  # query heads for each of them
    neurons: list[int]  # of each block's MLP
    ratio: float  # of all parameters, reached
    parameters_before: int
    parameters_after: int
    bytes_before: int  # of tensors
    bytes_after: int
    needs_loader: bool
    notes: list[str]


def prune_width(
    source: Checkpoint,
    target: Path,
    *,
    options: WidthPruning,
    ids: Tensor,
    device: torch.device | str,
    dtype: torch.dtype,
    progress: Progress = no_progress,
) -> WidthPruned:
    """Write the checkpoint `source` with narrower blocks into the new folder `target`.

    The folder appears under its name only when it is complete; after an error nothing is left.

    Args:
        options: of the method.
        ids: (samples, tokens) calibration tokens.
        device, dtype: what the method computes in; the weights on disk keep their dtype.

    Raises:
        InvalidInput: the ratio cannot be reached.
        BadCheckpoint: the source has changed since it was opened.
        UnsupportedModel: mixtures of experts, quantised weights, and families whose widths cannot be set.
        StageFailed: the disk is full, or `target` exists.
    """
    plan = plan_width(source, options)
    task = WidthTask(
        model=BlockModel.from_checkpoint(source, device=device, dtype=dtype),
        layout=plan.layout,
        budget=plan.budget,
        group_counts=plan.counts,
        ids=ids,
        options=options,
        progress=progress,
    )
    choice = choose_units(task)
    same = len({(len(kept.groups), len(kept.neurons)) for kept in choice.kept}) == 1
    needs_loader = not same or bool(plan.biases.homeless)
    config = (
        _loader_config(plan.widths, choice, plan.architecture, plan.biases)
        if needs_loader
        else plan.widths.narrowed(len(choice.kept[0].groups), len(choice.kept[0].neurons), flags=plan.biases.flags)
    )
    rewrite = Rewrite(
        checkpoint=source,
        prefix=stack_of(source, plan.architecture)[0],
        layout=plan.layout,
        choice=choice,
        added=(
            {number: added_shapes(plan.layout, kept, plan.added) for number, kept in enumerate(choice.kept)}
            if plan.added
            else {}
        ),
    )
    with new_folder(target) as folder:
        bytes_after = rewrite.write(folder, progress=progress)
        copy_side_files(source.path, folder)
        write_json(folder / CONFIG_FILE, config)
        if needs_loader:
            add_loader(folder)
        Checkpoint.open(folder)
    kept_groups, kept_neurons = ([kept.count(unit) for kept in choice.kept] for unit in ("group", "neuron"))
    reached = plan.budget.reached(sum(kept_groups), sum(kept_neurons))
    return WidthPruned(
        kept=choice.kept,
        groups=kept_groups,
        queries=plan.layout.queries,
        neurons=kept_neurons,
        ratio=reached,
        parameters_before=plan.budget.before,
        parameters_after=round(plan.budget.before * (1 - reached)),
        bytes_before=source.total_bytes,
        bytes_after=bytes_after,
        needs_loader=needs_loader,
        notes=_notes(plan.widths, plan.counts, plan.biases, choice),
    )


def plan_width(checkpoint: Checkpoint, options: WidthPruning) -> WidthPlan:
    """What narrower blocks of this checkpoint can look like, from its config and headers alone.

    Raises:
        InvalidInput: the ratio cannot be reached.
        UnsupportedModel: as `prune_width`.
    """
    architecture = architecture_of(checkpoint.config)
    loaded = as_config(checkpoint.config)
    blocks = list(skeleton(loaded).get_submodule(architecture.blocks_prefix).children())
    layout = layout_of(blocks, loaded, architecture)
    widths = WidthConfig(checkpoint.config, layout, type(blocks[0]))
    counts = _group_counts(widths, uniform=not options.uneven)
    biases = _biases(widths, counts, uniform=not options.uneven) if options.compensated else NO_BIASES
    added = _added(layout, biases)
    budget = _budget(checkpoint, layout, added, len(blocks), options.ratio)
    return WidthPlan(architecture, layout, widths, counts, biases, added, budget)


def _group_counts(widths: WidthConfig, *, uniform: bool) -> tuple[int, ...]:
    """Numbers of groups that a block may keep: those that transformers takes, or with the loader any."""
    if uniform:
        return widths.group_counts
    full = widths.layout.groups
    return tuple(range(1, full + 1)) if widths.any_groups else (full,)


def _biases(widths: WidthConfig, counts: tuple[int, ...], *, uniform: bool) -> Biases:
    """Where the compensation is kept; attention needs none where no head goes."""
    layout = widths.layout
    needed = (layout.attention_output, layout.down) if len(counts) > 1 else (layout.down,)
    lacking = tuple(path for path in needed if f"{path}.bias" not in layout.shapes)
    flags = [widths.bias_flag(path) for path in lacking]
    known = tuple(dict.fromkeys(flag for flag in flags if flag is not None))
    if not uniform or len(known) < len(set(flags)):
        return Biases((), (), lacking)  # the loader gives them a place
    return Biases(known, widths.biases_by(known), ())


def _added(layout: Layout, biases: Biases) -> dict[str, str]:
    """Biases that every block gets → the weights of their modules."""
    names = [*biases.added, *(f"{path}.bias" for path in biases.homeless)]
    return {name: name.removesuffix("bias") + "weight" for name in names}


def _budget(checkpoint: Checkpoint, layout: Layout, added: Mapping[str, str], blocks: int, ratio: float) -> Budget:
    before = count_parameters(checkpoint.config).total

    def biases(groups: int, neurons: int) -> int:
        kept = Kept(tuple(range(groups)), tuple(range(neurons)))
        return sum(shape[0] for shape in added_shapes(layout, kept, added).values())

    constant = biases(0, 0)
    group, neuron = (layout.cost("group") + biases(1, 0) - constant, layout.cost("neuron") + biases(0, 1) - constant)
    units = layout.groups * layout.cost("group") + layout.neurons * layout.cost("neuron")
    return Budget(
        before=before,
        fixed=before + blocks * (constant - units),
        group=group,
        neuron=neuron,
        blocks=blocks,
        groups=layout.groups,
        neurons=layout.neurons,
        ratio=ratio,
    )


def _loader_config(widths: WidthConfig, choice: Choice, architecture: Architecture, biases: Biases) -> dict[str, Any]:
    layout = widths.layout
    return loader_config(
        widths.config,
        blocks=architecture.blocks_prefix,
        groups=layout.groups,
        queries=layout.queries,
        head_dim=layout.head_dim,
        neuron_key=widths.neuron_key,
        biases=list(biases.homeless),
        widths=[[len(kept.groups), len(kept.neurons)] for kept in choice.kept],
    )


def _notes(widths: WidthConfig, counts: tuple[int, ...], biases: Biases, choice: Choice) -> list[str]:
    layout = widths.layout
    notes = []
    if len(counts) == 1:
        single = "a block has a single group of heads"
        why = single if layout.groups == 1 else "transformers' classes of this family allow no other number"
        notes.append(f"All attention heads were kept, since {why}; the neurons carry the whole ratio.")
    elif len(counts) < layout.groups:
        notes.append(
            "transformers' config class of this family takes only some numbers of heads, so attention may be pruned "
            "less or more than the MLP."
        )
    if layout.norms_groups and any(len(kept.groups) < layout.groups for kept in choice.kept):
        notes.append(
            "This family normalises queries and keys over all heads together, so removing heads changes the scale of "
            "those that stay."
        )
    if biases.homeless:
        notes.append(
            f"{' and '.join(biases.homeless)} got a bias that makes up for what was pruned, which this family's "
            "config does not know."
        )
    return notes
