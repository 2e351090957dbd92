"""Wanda-sp against its formula, block by block on what the pruned blocks before pass on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from secateur.contract.options.width import WandaSpPruning
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.pruning.wanda_sp import channel_importance
from workers.engine.pruning.width import prune_width


def test_importance_is_mean_weight_times_norm() -> None:
    torch.manual_seed(0)
    weight, states = torch.randn(5, 3), torch.randn(40, 3)
    expected = [
        sum(abs(float(weight[i, j])) for i in range(5)) / 5 * float(states[:, j].square().sum()) ** 0.5
        for j in range(3)
    ]
    found = channel_importance(weight, states.double().norm(dim=0))
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_the_weakest_go_and_later_blocks_see_the_pruned(
    make_model: Callable[..., Any], make_ids: Callable[..., Tensor], save_model: Callable[..., Path], tmp_path: Path
) -> None:
    """A plain reimplementation on the model in memory: zero what a block loses, then look at the next."""
    model, ids = make_model("mistral", num_attention_heads=8, num_key_value_heads=4), make_ids(4, 12)
    options = WandaSpPruning(kind="wanda_sp", ratio=0.25)
    done = prune_width(
        Checkpoint.open(save_model(model)),
        tmp_path / "pruned",
        options=options,
        ids=ids,
        device="cpu",
        dtype=torch.float32,
    )
    for number, block in enumerate(model.model.layers):
        for module, units, kept in (
            (block.self_attn.o_proj, 4, done.kept[number].groups),
            (block.mlp.down_proj, 48, done.kept[number].neurons),
        ):
            inputs: list[Tensor] = []
            handle = module.register_forward_pre_hook(lambda _, args, inputs=inputs: inputs.append(args[0]))
            with torch.no_grad():
                model(ids, use_cache=False)
            handle.remove()
            channels = module.weight.abs().mean(0) * inputs[0].flatten(0, 1).norm(dim=0)
            scores = channels.view(units, -1).sum(1)
            assert kept == tuple(sorted(scores.topk(len(kept)).indices.tolist()))
        with torch.no_grad():  # after both were scored
            for module, units, kept in (
                (block.self_attn.o_proj, 4, done.kept[number].groups),
                (block.mlp.down_proj, 48, done.kept[number].neurons),
            ):
                gone = [unit for unit in range(units) if unit not in kept]
                module.weight.view(module.weight.shape[0], units, -1)[:, gone] = 0
