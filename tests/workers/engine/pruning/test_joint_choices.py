"""What a joint search chooses, written: the original without it, healed or not, within the budget, in every family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from secateur.contract.joint import WHOLE, needed_of, parts_of, units_of
from secateur.contract.options.joint import JointPruning
from secateur.contract.targets import Sizes
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.parameters import count_parameters
from workers.engine.healing.changed_weights import names_in_blocks, write_changes
from workers.engine.healing.fit import through
from workers.engine.healing.halves import Gone, heal_halves
from workers.engine.healing.projections import BlockChange
from workers.engine.model.block_model import BlockModel
from workers.engine.model.loading import load_model
from workers.engine.model.reduced_blocks import without_halves
from workers.engine.pruning.half_sizes import half_sizes
from workers.engine.pruning.sub_block import halves_to_remove, prune_sub_block
from workers.engine.scoring.joint import search_parts


def test_every_family(
    family: str,
    make_model: Callable[..., PreTrainedModel],
    save_model: Callable[..., Path],
    make_ids: Callable[..., Tensor],
    tmp_path: Path,
) -> None:
    model: Any = make_model(family)
    source = Checkpoint.open(save_model(model))
    pruning = JointPruning.model_validate({"kind": "joint", "target": {"parameters": 0.9}})
    sizes, halves = Sizes.of(count_parameters(source.config)), half_sizes(source, in_bytes=False)

    def saved(block: int, goes: str) -> int:
        return sizes.per_block[block] if goes == WHOLE else halves[block, goes]

    parts = parts_of(pruning, len(sizes.per_block), saved)
    view, ids = BlockModel.from_model(model), make_ids(3, 11)
    needed = needed_of(pruning.target, sizes, parts)
    found = search_parts(view, ids, parts, needed=needed, evaluations=12)
    units = units_of(found.best.parts)
    done = prune_sub_block(source, tmp_path / "pruned", drop=units)
    assert done.parameters_before - done.parameters_after == found.best.saved
    assert done.parameters_after <= 0.9 * done.parameters_before

    expected = _without(view, ids, gone := halves_to_remove(view.n_blocks, units), {})
    torch.testing.assert_close(_logits(tmp_path / "pruned", ids), expected, rtol=1e-5, atol=1e-5)

    pruned = Checkpoint.open(tmp_path / "pruned")
    names = names_in_blocks(pruned, done.kept)
    fits = heal_halves(view, gone, make_ids(10, 12), changeable=lambda block, name: (block, name) in names).fits
    changes = {fit.block: fit.change for fit in fits if fit.helps}
    write_changes(pruned, names, changes, tmp_path / "healed")
    healed = _without(view, ids, gone, changes)
    torch.testing.assert_close(_logits(tmp_path / "healed", ids), healed, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def _without(view: BlockModel, ids: Tensor, gone: Gone, changes: dict[int, BlockChange]) -> Tensor:
    """Logits of the original whose halves add nothing; a block that goes whole takes its norms of the stream along."""
    states = [view.embed(ids)]
    for block in view.blocks():
        halves = gone.get(block.index, [])
        if len(halves) < 2:
            with without_halves(block, halves):
                states = through(block, states, changes.get(block.index, {}))
    return view.head(states[0])


@torch.no_grad()
def _logits(folder: Path, ids: Tensor) -> Tensor:
    model: Any = load_model(Checkpoint.open(folder), device=torch.device("cpu"), dtype=torch.float32)
    found: Tensor = model(ids, use_cache=False).logits
    return found
