"""LLM-Pruner against full autograd through the whole model, for each of its importances."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from secateur.contract.options.width import LlmPrunerPruning
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.block_model import BlockModel
from workers.engine.progress import no_progress
from workers.engine.pruning.channels import layout_of
from workers.engine.pruning.llm_pruner import score_blocks
from workers.engine.pruning.width import prune_width

IMPORTANCES = ["param_first", "param_second", "param_mix", "vectorize"]


def plain_scores(model: Any, ids: Tensor, importance: str) -> tuple[Tensor, Tensor]:
    """Scores of groups and neurons, (blocks, units), by gradients of the whole model, sample by sample."""
    names = [name for name, parameter in model.named_parameters() if ".layers." in name and parameter.dim() == 2]
    first = {name: torch.zeros_like(model.get_parameter(name)) for name in names}
    second = {name: torch.zeros_like(model.get_parameter(name)) for name in names}
    for sample in ids:
        model.zero_grad()
        model(sample[None], labels=sample[None], use_cache=False).loss.backward()
        for name in names:
            gradient = model.get_parameter(name).grad
            first[name] += gradient / len(ids)
            second[name] += gradient**2 / len(ids)

    def channels(name: str, axis: int) -> Tensor:
        """(channels of `axis`,)"""
        weight: Tensor = model.get_parameter(name).detach()
        each = {
            "param_first": (weight * first[name]).abs(),
            "param_second": (weight**2 * second[name]).abs(),
            "param_mix": (weight * first[name] - 0.5 * weight**2 * second[name]).abs(),
            "vectorize": weight * first[name],
        }[importance]
        return each.sum(1 - axis).abs()

    config = model.config
    groups, neurons = [], []
    for block in range(config.num_hidden_layers):
        path = f"model.layers.{block}"
        parts = [("q_proj", 0), ("k_proj", 0), ("v_proj", 0), ("o_proj", 1)]
        by_channel = [channels(f"{path}.self_attn.{name}.weight", axis) for name, axis in parts]
        groups.append(torch.stack([c.view(config.num_key_value_heads, -1).sum(1) for c in by_channel]).sum(0))
        parts = [("gate_proj", 0), ("up_proj", 0), ("down_proj", 1)]
        by_channel = [channels(f"{path}.mlp.{name}.weight", axis) for name, axis in parts]
        neurons.append(torch.stack(by_channel).sum(0))
    return torch.stack(groups), torch.stack(neurons)


@pytest.mark.parametrize("importance", IMPORTANCES)
def test_scores_equal_full_autograd(
    importance: str, make_model: Callable[..., Any], make_ids: Callable[..., Tensor]
) -> None:
    model, ids = make_model("llama"), make_ids(4, 12)
    expected = plain_scores(model, ids, importance)
    model.zero_grad()
    view = BlockModel.from_model(model)
    layout = layout_of(list(model.model.layers), model.config, view.architecture)
    found = score_blocks(view, layout, ids, importance=importance, progress=no_progress)
    for unit in (0, 1):
        scores = torch.stack([block[unit] for block in found])
        torch.testing.assert_close(scores.float(), expected[unit], rtol=1e-4, atol=1e-9)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("importance", IMPORTANCES)
def test_the_middle_blocks_lose_their_weakest(
    importance: str,
    make_model: Callable[..., Any],
    make_ids: Callable[..., Tensor],
    save_model: Callable[..., Path],
    tmp_path: Path,
) -> None:
    model, ids = make_model("llama", num_hidden_layers=8, num_key_value_heads=4), make_ids(4, 12)
    options = LlmPrunerPruning.model_validate(
        {"kind": "llm_pruner", "ratio": 0.1, "uniform": False, "importance": importance}
    )
    done = prune_width(
        Checkpoint.open(save_model(model)),
        tmp_path / "pruned",
        options=options,
        ids=ids,
        device="cpu",
        dtype=torch.float32,
    )
    groups, neurons = plain_scores(model, ids, importance)
    for number, kept in enumerate(done.kept):
        whole = number < 4 or number >= 6
        assert (len(kept.groups), len(kept.neurons)) == ((4, 48) if whole else (done.groups[4], done.neurons[4]))
        assert kept.groups == tuple(sorted(groups[number].topk(len(kept.groups)).indices.tolist()))
        assert kept.neurons == tuple(sorted(neurons[number].topk(len(kept.neurons)).indices.tolist()))
    assert done.neurons[4] < 48
