"""Progress in proportion to the time that parts take: the head counts as what it costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from torch import Tensor
from transformers import PreTrainedModel

from secateur.contract.options.scoring import GreedyScoring, PerplexityScoring, TaylorScoring, TextScoring
from workers.engine.model.block_model import BlockModel
from workers.engine.progress import Meter
from workers.engine.scoring import greedy
from workers.engine.scoring.task import ScoringTask, score_blocks

Told = list[tuple[int, int, str]]


def test_parts_add_up_to_the_whole_and_never_beyond() -> None:
    told: Told = []
    meter = Meter(lambda *at: told.append(at), 4.4, "passes")
    for cost in (1, 1.4, 2, 3):
        meter.add(cost)
    assert told == [(1, 4, "passes"), (2, 4, "passes"), (4, 4, "passes"), (4, 4, "passes")]


def test_what_needs_no_work_is_told_as_done() -> None:
    told: Told = []
    meter = Meter(lambda *at: told.append(at), 10, "passes")
    meter.add(3)
    meter.finish()
    assert told[-1] == (10, 10, "passes")


@pytest.fixture
def heavy_head(make_model: Callable[..., PreTrainedModel]) -> BlockModel:
    """A head that costs as much as thirty blocks, as those of large vocabularies do of small models."""
    model = BlockModel.from_model(make_model(vocab_size=4000, intermediate_size=8, tie_word_embeddings=False))
    assert model.head_worth == pytest.approx(4000 * 32 / sum(p.numel() for p in model._modules[0].parameters()))
    assert model.head_worth > 20
    return model


@pytest.mark.parametrize("options", [PerplexityScoring(), TaylorScoring(criterion="taylor")])
def test_the_head_has_its_part_of_a_walk(
    heavy_head: BlockModel, make_ids: Callable[..., Tensor], options: TextScoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: Told = []
    before_head: list[float] = []
    pieces = BlockModel.head_pieces

    def watched(self: BlockModel, *args: Any, **more: Any) -> Any:
        before_head.append(told[-1][0] / told[-1][1])
        return pieces(self, *args, **more)

    monkeypatch.setattr(BlockModel, "head_pieces", watched)
    score_blocks(ScoringTask(heavy_head, make_ids(4, 12), options, progress=lambda *at: told.append(at)))
    assert before_head[0] < 0.25  # once all blocks have been walked
    assert told[-1][0] == told[-1][1]


def test_rounds_of_a_search_count_it_too(heavy_head: BlockModel, make_ids: Callable[..., Tensor]) -> None:
    told: Told = []
    options = GreedyScoring(criterion="greedy")
    task = ScoringTask(heavy_head, make_ids(4, 12), options, count=1, progress=lambda *at: told.append(at))
    greedy.score(replace(task, protected=frozenset({0, 3})))
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert told[-1] == (1000, 1000, "thousandths of rounds")
    assert 100 < told[0][0] < 400  # one of two candidates, on half of the samples
