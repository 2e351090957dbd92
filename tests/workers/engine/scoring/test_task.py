"""What holds for every criterion: streamed equals in memory, the same bits twice, a whole order within its bounds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from secateur.contract import catalog
from secateur.contract.errors import InvalidInput
from secateur.contract.options.scoring import BlockScoring, TextScoring
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.block_model import BlockModel
from workers.engine.pruning.choose_blocks import choose_blocks
from workers.engine.scoring.task import ScoringTask, score_blocks

FEW = {"evaluations": 20, "initial": 8, "offspring": 4}  # for a search that has a budget
OPTIONS: dict[str, BlockScoring] = {
    name: options.model_validate({"criterion": name} | {key: FEW[key] for key in FEW if key in options.model_fields})
    for name, row in catalog.CRITERIA.items()
    if issubclass(options := row.options, BlockScoring)
}


def _task(name: str, view: BlockModel, ids: Tensor | None, protected: set[int], **more: Any) -> ScoringTask[Any]:
    options = OPTIONS[name]
    count = 2 if options.searches else None
    return ScoringTask(view, ids, options, count=count, protected=frozenset(protected), **more)


@pytest.mark.parametrize("criterion", OPTIONS)
def test_streamed_equals_in_memory_and_every_run_the_last(
    criterion: str,
    make_model: Callable[..., PreTrainedModel],
    make_ids: Callable[..., Tensor],
    save_model: Callable[..., Path],
) -> None:
    model = make_model(num_hidden_layers=6)
    ids = make_ids(4, 16) if isinstance(OPTIONS[criterion], TextScoring) else None
    path = save_model(model, max_shard_size="20KB")
    views = [
        BlockModel.from_model(model),
        BlockModel.from_checkpoint(Checkpoint.open(path), device="cpu", dtype=torch.float32),
        BlockModel.from_checkpoint(Checkpoint.open(path), device="cpu", dtype=torch.float32),
    ]
    told: list[tuple[int, int]] = []
    more: dict[str, Any] = {"progress": lambda done, total, _: told.append((done, total)), "seed": 3}
    runs = [score_blocks(_task(criterion, view, ids, {0, 1, 5}, **more)) for view in views]
    assert runs[0] == runs[1] == runs[2]
    assert len(runs[0].values) == 6
    assert len(set(runs[0].order)) == len(runs[0].order)
    chosen = choose_blocks(runs[0], count=2, protected={0, 1, 5})
    assert len(chosen) == 2
    assert told[-1][0] == told[-1][1]  # it ends at the whole
    assert all(0 <= done <= total for done, total in told)
    if runs[0].standard_errors is not None:
        assert len(runs[0].standard_errors) == 6


@pytest.mark.parametrize("criterion", [name for name, row in OPTIONS.items() if isinstance(row, TextScoring)])
def test_text_is_asked_for(criterion: str, make_model: Callable[..., PreTrainedModel]) -> None:
    view = BlockModel.from_model(make_model())
    with pytest.raises(InvalidInput) as caught:
        score_blocks(_task(criterion, view, None, set()))
    assert caught.value.errors[0].pointer == "calibration"


@pytest.mark.parametrize("criterion", OPTIONS)
def test_every_criterion_scores_a_mixture_of_experts(
    criterion: str, make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    view = BlockModel.from_model(make_model("qwen3_moe"))
    scores = score_blocks(_task(criterion, view, make_ids(2, 12), {0, 3}))
    assert len(choose_blocks(scores, count=2, protected=[0, 3])) == 2


@pytest.mark.parametrize("criterion", [name for name, row in OPTIONS.items() if row.searches])
def test_a_search_needs_to_know_how_many_go(
    criterion: str, make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    task = ScoringTask(BlockModel.from_model(make_model()), make_ids(), OPTIONS[criterion])
    with pytest.raises(InvalidInput) as caught:
        score_blocks(task)
    assert caught.value.errors[0].pointer == "blocks"
