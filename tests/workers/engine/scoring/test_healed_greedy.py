"""The search after healing against healing every set from the beginning, by the walk that jobs use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor
from transformers import PreTrainedModel

from secateur.contract.options.scoring import HealedGreedyScoring
from workers.engine.healing import sets as healed_sets
from workers.engine.healing.walk import HealingSettings, fit_healing
from workers.engine.model.block_model import BlockModel
from workers.engine.scoring import healed_greedy
from workers.engine.scoring.result import BlockScores
from workers.engine.scoring.task import ScoringTask

BLOCKS = 7


def search(model: PreTrainedModel, ids: Tensor, count: int, **more: Any) -> BlockScores:
    options = HealedGreedyScoring(criterion="healed_greedy", **{"sets": "both", **more})
    return healed_greedy.score(ScoringTask(BlockModel.from_model(model), ids, options, count=count))


def healed(model: PreTrainedModel, ids: Tensor, *removed: int) -> float:
    """The divergence on the held-out samples with every cut healed, taken or not."""
    kept = [block for block in range(BLOCKS) if block not in removed]
    found = fit_healing(BlockModel.from_model(model), kept, ids, settings=HealingSettings(refit="none"))
    assert all(cut.helps for cut in found.cuts), "or the two would not be the same"
    return found.cuts[-1].kl_after


@pytest.fixture
def model(make_model: Callable[..., PreTrainedModel]) -> PreTrainedModel:
    return make_model(num_hidden_layers=BLOCKS)


def test_runs_are_judged_as_the_walk_judges_them(model: PreTrainedModel, make_ids: Callable[..., Tensor]) -> None:
    ids = make_ids(40, 16)
    found = search(model, ids, 2, sets="runs")
    judged = {run["first"]: run["kl"] for run in found.details["runs"]}
    oracle = {first: healed(model, ids, first, first + 1) for first in range(1, BLOCKS - 1)}
    assert judged == pytest.approx(oracle, rel=1e-4)
    best = min(oracle, key=lambda first: oracle[first])
    assert found.order[:2] == [best, best + 1]
    assert found.details["chosen"] == "run"
    assert found.values[best] == pytest.approx(oracle[best], rel=1e-4)
    assert found.values[0] is None


def test_blocks_are_found_one_at_a_time_given_those_before(
    model: PreTrainedModel, make_ids: Callable[..., Tensor]
) -> None:
    ids = make_ids(40, 16)
    found = search(model, ids, 2, sets="scattered")
    first = {block: healed(model, ids, block) for block in range(1, BLOCKS)}
    best = min(first, key=lambda block: first[block])
    assert found.order[0] == best
    assert found.values[best] == pytest.approx(first[best], rel=1e-4)
    second = {block: healed(model, ids, best, block) for block in range(1, BLOCKS) if block != best}
    # a later cut keeps what was fitted for it while candidates before it are judged, so those are
    # somewhat above
    behind = {block: value for block, value in second.items() if block > best}
    assert {block: found.values[block] for block in behind} == pytest.approx(behind, rel=1e-3)
    assert found.order[1] == min(second, key=lambda block: found.values[block] or 0.0)
    assert sorted(found.order) == list(range(1, BLOCKS))
    assert found.details["chosen"] == "scattered"


def test_of_both_the_nearer_to_the_original_is_taken(model: PreTrainedModel, make_ids: Callable[..., Tensor]) -> None:
    ids = make_ids(40, 16)
    runs, scattered, both = (search(model, ids, 2, sets=sets) for sets in ("runs", "scattered", "both"))
    kl_of = {id(found): found.values[found.order[1]] or 0.0 for found in (runs, scattered, both)}
    assert kl_of[id(both)] == min(kl_of[id(runs)], kl_of[id(scattered)])
    assert both.order[:2] in (runs.order[:2], scattered.order[:2])


def test_a_block_that_its_neighbour_can_stand_in_for_goes_first(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    """One that adds a constant is worth much to the bare model, and nothing once that is in the bias before it."""
    model: Any = make_model("gpt2", n_layer=5)
    block = model.transformer.h[2]
    for projection in (block.attn.c_proj, block.mlp.c_proj):
        projection.weight.data.zero_()
    block.mlp.c_proj.bias.data[::3] = 2.0
    ids, protected = make_ids(60, 16), frozenset({4})
    view = BlockModel.from_model(model)
    settings = HealingSettings(refit="none")
    bare = {
        gone: fit_healing(view, [b for b in range(5) if b != gone], ids, settings=settings).cuts[0].kl_before
        for gone in (1, 2, 3)
    }
    assert bare[2] == max(bare.values())
    options = HealedGreedyScoring(criterion="healed_greedy")
    found = healed_greedy.score(ScoringTask(view, ids, options, count=1, protected=protected))
    assert found.order[0] == 2


def test_text_that_memory_does_not_hold_at_every_depth_is_cut(
    model: PreTrainedModel, make_ids: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(healed_sets, "available_memory", lambda device: 0)
    found = search(model, make_ids(40, 16), 1, sets="runs")
    assert (found.details["fitted_tokens"], found.details["judged_tokens"]) == (16, 16)


def test_where_the_protected_leave_no_run_blocks_are_found_one_at_a_time(
    model: PreTrainedModel, make_ids: Callable[..., Tensor]
) -> None:
    options = HealedGreedyScoring(criterion="healed_greedy", sets="runs")
    task = ScoringTask(BlockModel.from_model(model), make_ids(20, 16), options, count=2, protected=frozenset({2, 4, 6}))
    found = healed_greedy.score(task)
    assert set(found.order) == {1, 3, 5}
    assert found.details["runs"] == []
