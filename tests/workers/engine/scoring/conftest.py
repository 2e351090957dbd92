"""Plain oracles: separate models that really lack a block, and full autograd."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel


@pytest.fixture(scope="session")
def without() -> Callable[..., PreTrainedModel]:
    """without(model, {1, 2}): a separate Llama-shaped model that lacks these blocks."""

    def build(model: PreTrainedModel, blocks: Collection[int]) -> PreTrainedModel:
        reduced = copy.deepcopy(model)
        stack = reduced.get_submodule("model.layers")
        assert isinstance(stack, nn.ModuleList)
        kept = [layer for index, layer in enumerate(stack) if index not in blocks]
        reduced.get_submodule("model").layers = nn.ModuleList(kept)
        reduced.config.num_hidden_layers = len(kept)
        return reduced

    return build


@pytest.fixture(scope="session")
def token_losses() -> Callable[..., Tensor]:
    """token_losses(model, ids): next-token losses by the model's own forward, (samples, tokens - 1), fp64."""

    @torch.no_grad()
    def run(model: PreTrainedModel, ids: Tensor) -> Tensor:
        rows = []
        for sample in ids:  # one by one, as the paper's script does
            logits = model(input_ids=sample[None], use_cache=False).logits[0, :-1]
            rows.append(F.cross_entropy(logits.double(), sample[1:], reduction="none"))
        return torch.stack(rows)

    return run
