"""Random scores follow the seed."""

from __future__ import annotations

from collections.abc import Callable

from transformers import PreTrainedModel

from secateur.contract.options.scoring import RandomScoring
from workers.engine.model.block_model import BlockModel
from workers.engine.scoring import random
from workers.engine.scoring.task import ScoringTask


def test_same_seed_same_order(make_model: Callable[..., PreTrainedModel]) -> None:
    view = BlockModel.from_model(make_model(num_hidden_layers=8))
    runs = [random.score(ScoringTask(view, None, RandomScoring(criterion="random"), seed=seed)) for seed in (3, 3, 4)]
    assert runs[0] == runs[1]
    assert runs[0].order != runs[2].order
    assert sorted(runs[0].order) == list(range(8))
