"""FLAP against its formulas: fluctuation, standardisation, one threshold with groups weighed by size, compensation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from secateur.contract.options.width import FlapPruning
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.pruning.flap import compensation, fluctuation, standardised
from workers.engine.pruning.width import prune_width


def test_fluctuation_is_variance_times_squared_weights() -> None:
    torch.manual_seed(0)
    weight, states = torch.randn(5, 3), torch.randn(40, 3).double()
    expected = [float(states[:, j].var(unbiased=False)) * float((weight[:, j] ** 2).sum()) for j in range(3)]
    found = fluctuation(weight, states.var(0, unbiased=False))
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=0)


def test_standardised() -> None:
    scores = torch.tensor([1.0, 2.0, 6.0])
    torch.testing.assert_close(standardised(scores), (scores - 3) / scores.std())
    assert torch.equal(standardised(torch.ones(4)), torch.zeros(4))


def test_compensation_keeps_the_mean_output() -> None:
    torch.manual_seed(0)
    weight, states, kept = torch.randn(5, 4).double(), torch.randn(40, 4).double() + 2, torch.tensor([0, 2])
    bias = compensation(weight, states.mean(0), kept)
    before = (states @ weight.T).mean(0)
    after = (states[:, kept] @ weight[:, kept].T + bias).mean(0)
    torch.testing.assert_close(after, before)


def plain_scores(model: Any, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Standardised scores of groups, (blocks, groups), and neurons, from one forward pass of the whole model."""
    inputs: dict[Any, Tensor] = {}
    modules = [(block.self_attn.o_proj, block.mlp.down_proj) for block in model.model.layers]
    for pair in modules:
        for module in pair:
            module.register_forward_pre_hook(lambda m, args: inputs.__setitem__(m, args[0].flatten(0, 1).double()))
    with torch.no_grad():
        model(ids, use_cache=False)

    def score(module: Any) -> Tensor:
        weight: Tensor = module.weight.detach().double()
        return inputs[module].var(0, unbiased=False) * weight.square().sum(0)

    def standard(rows: Tensor) -> Tensor:
        return (rows - rows.mean(1, keepdim=True)) / rows.std(1, keepdim=True)

    attention = standard(torch.stack([score(o) ** 2 for o, _ in modules]))
    groups = attention.view(len(modules), model.config.num_key_value_heads, -1).mean(2)
    return groups, standard(torch.stack([score(down) for _, down in modules]))


def test_one_threshold_over_all_blocks(
    make_model: Callable[..., Any], make_ids: Callable[..., Tensor], save_model: Callable[..., Path], tmp_path: Path
) -> None:
    """Of all units in one list, strongest first, those stay whose parameters come nearest to what may stay."""
    model = make_model("mistral", num_attention_heads=16, num_key_value_heads=16, head_dim=2, intermediate_size=96)
    ids = make_ids(4, 12)
    options = FlapPruning(kind="flap", ratio=0.2, uniform=False, compensate=False)
    done = prune_width(
        Checkpoint.open(save_model(model)),
        tmp_path / "pruned",
        options=options,
        ids=ids,
        device="cpu",
        dtype=torch.float32,
    )
    groups, neurons = plain_scores(model, ids)
    scores = torch.cat([groups.flatten(), neurons.flatten()])
    weights = torch.full((len(scores),), 3 * 32)  # parameters of a neuron
    weights[: groups.numel()] = 4 * 2 * 32  # and of a head
    order = scores.argsort(descending=True)
    prunable = int(weights.sum())
    may_stay = prunable - 0.2 * model.num_parameters()
    cut = int((weights[order].cumsum(0) - may_stay).abs().argmin())
    threshold = scores[order[cut]]
    assert [kept.groups for kept in done.kept] == [
        tuple(row.nonzero().flatten().tolist()) for row in groups >= threshold
    ]
    assert [kept.neurons for kept in done.kept] == [
        tuple(row.nonzero().flatten().tolist()) for row in neurons >= threshold
    ]
    assert len(set(done.neurons)) > 1


def test_uniform_takes_the_best_of_each_block(
    make_model: Callable[..., Any], make_ids: Callable[..., Tensor], save_model: Callable[..., Path], tmp_path: Path
) -> None:
    model, ids = make_model("mistral", num_key_value_heads=4), make_ids(4, 12)
    options = FlapPruning(kind="flap", ratio=0.25)
    done = prune_width(
        Checkpoint.open(save_model(model)),
        tmp_path / "pruned",
        options=options,
        ids=ids,
        device="cpu",
        dtype=torch.float32,
    )
    groups, neurons = plain_scores(model, ids)
    for number, kept in enumerate(done.kept):
        assert kept.groups == tuple(sorted(groups[number].topk(done.groups[0]).indices.tolist()))
        assert kept.neurons == tuple(sorted(neurons[number].topk(done.neurons[0]).indices.tolist()))
