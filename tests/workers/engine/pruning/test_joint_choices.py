"""What a joint search chooses, written: the original without it, and within the budget, in every family."""

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
from workers.engine.model.block_model import BlockModel
from workers.engine.model.loading import load_model
from workers.engine.model.reduced_blocks import without_halves
from workers.engine.pruning.half_sizes import half_sizes
from workers.engine.pruning.sub_block import prune_sub_block
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

    reduced: Any = load_model(Checkpoint.open(tmp_path / "pruned"), device=torch.device("cpu"), dtype=torch.float32)
    state = view.embed(ids)
    with torch.no_grad():
        for block in view.blocks():
            gone: Any = [half for half in ("attention", "mlp") if f"{block.index}.{half}" in units]
            if len(gone) == 2:  # it goes whole, with norms of the stream that it may have
                continue
            with without_halves(block, gone):
                state = block(state)
        expected, logits = view.head(state), reduced(ids, use_cache=False).logits
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
