"""Random scores follow the seed."""

from __future__ import annotations

from collections.abc import Callable

from transformers import PreTrainedModel

from workers.engine.model.block_model import BlockModel
from workers.engine.progress import no_progress
from workers.engine.scoring import random


def test_same_seed_same_order(make_model: Callable[..., PreTrainedModel]) -> None:
    view = BlockModel.from_model(make_model(num_hidden_layers=8))
    runs = [random.score(view, None, options={}, progress=no_progress, seed=seed) for seed in (3, 3, 4)]
    assert runs[0] == runs[1]
    assert runs[0].order != runs[2].order
    assert sorted(runs[0].order) == list(range(8))
