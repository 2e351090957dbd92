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
from workers.engine.model.block_model import BlockModel
from workers.engine.progress import no_progress
from workers.engine.pruning.plan import choose
from workers.engine.scoring.registry import CRITERIA

_OPTIONS: dict[str, Any] = {"count": 2, "protected": [0, 1, 5], "evaluations": 20, "initial": 8, "offspring": 4}
_WITHOUT_TEXT = {"magnitude", "random"}


@pytest.mark.parametrize("criterion", CRITERIA)
def test_streamed_equals_in_memory_and_every_run_the_last(
    criterion: str,
    make_model: Callable[..., PreTrainedModel],
    make_ids: Callable[..., Tensor],
    save_model: Callable[..., Path],
) -> None:
    model = make_model(num_hidden_layers=6)
    ids = None if criterion in _WITHOUT_TEXT else make_ids(4, 16)
    path = save_model(model, max_shard_size="20KB")
    views = [
        BlockModel.from_model(model),
        BlockModel.from_checkpoint(path, device="cpu", dtype=torch.float32),
        BlockModel.from_checkpoint(path, device="cpu", dtype=torch.float32),
    ]
    progress: list[tuple[int, int]] = []
    runs = [
        CRITERIA[criterion](
            view, ids, options=_OPTIONS, progress=lambda done, total, _: progress.append((done, total)), seed=3
        )
        for view in views
    ]
    assert runs[0] == runs[1] == runs[2]
    assert len(runs[0].values) == 6
    assert len(set(runs[0].order)) == len(runs[0].order)
    chosen = choose(runs[0], count=2, protected=_OPTIONS["protected"])
    assert len(chosen) == 2
    assert progress[-1][0] == progress[-1][1]  # it ends at the whole
    assert all(0 <= done <= total for done, total in progress)
    if runs[0].standard_errors is not None:
        assert len(runs[0].standard_errors) == 6


@pytest.mark.parametrize("criterion", sorted(CRITERIA.keys() - _WITHOUT_TEXT))
def test_text_is_asked_for(criterion: str, make_model: Callable[..., PreTrainedModel]) -> None:
    view = BlockModel.from_model(make_model())
    with pytest.raises(InvalidInput) as caught:
        CRITERIA[criterion](view, None, options={"count": 1}, progress=no_progress, seed=0)
    assert caught.value.errors[0].pointer == "/scoring/calibration"


@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_criterion_scores_a_mixture_of_experts(
    criterion: str, make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    view = BlockModel.from_model(make_model("qwen3_moe"))
    scores = CRITERIA[criterion](
        view, make_ids(2, 12), options={**_OPTIONS, "protected": [0, 3]}, progress=no_progress, seed=0
    )
    assert len(choose(scores, count=2, protected=[0, 3])) == 2


def test_the_catalogue_offers_what_the_engine_has() -> None:
    assert set(CRITERIA) == set(catalog.CRITERIA)
