"""The joint search against every choice tried one by one, by models whose halves are silenced by hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import product

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from secateur.contract.joint import WHOLE, Part, saved_by
from workers.engine.healing.judge import hold_out
from workers.engine.model.block_model import BlockModel
from workers.engine.model.reduced_blocks import HALVES_OF_A_BLOCK, Half, without_halves
from workers.engine.scoring.joint import JointFound, search_parts

SAVED = {"attention": 2, "mlp": 5, WHOLE: 7}
Make = Callable[..., PreTrainedModel]
Ids = Callable[..., Tensor]


def all_parts(blocks: int) -> list[Part]:
    return [Part(block, goes, saved) for block in range(blocks) for goes, saved in SAVED.items()]


def _logits(view: BlockModel, choice: Iterable[Part], ids: Tensor) -> Tensor:
    gone = {part.block: part.goes for part in choice}
    state = view.embed(ids)
    with torch.no_grad():
        for block in view.blocks():
            halves: list[Half] = [half for half in HALVES_OF_A_BLOCK if gone.get(block.index) in (half, WHOLE)]
            with without_halves(block, halves):
                state = block(state)
        return view.head(state).double().log_softmax(-1)


def divergence(view: BlockModel, choice: Iterable[Part], ids: Tensor) -> float:
    expected, actual = _logits(view, (), ids), _logits(view, choice, ids)
    return float((expected.exp() * (expected - actual)).sum(-1).mean())


def _every_choice(parts: list[Part], needed: int) -> list[tuple[Part, ...]]:
    by_block: dict[int, list[Part]] = {}
    for part in parts:
        by_block.setdefault(part.block, []).append(part)
    choices = (
        tuple(part for part in picked if part is not None)
        for picked in product(*([None, *of_block] for of_block in by_block.values()))
    )
    return [choice for choice in choices if saved_by(choice) >= needed]


@pytest.fixture(name="view")
def _view(make_model: Make) -> BlockModel:
    return BlockModel.from_model(make_model(num_hidden_layers=4))


@pytest.mark.parametrize("needed", [9, 12])
def test_what_is_found_is_the_best_of_all(view: BlockModel, make_ids: Ids, needed: int) -> None:
    ids = make_ids(5, 12)
    parts = all_parts(4)
    found = search_parts(view, ids, parts, needed=needed, evaluations=200)
    searched, held = hold_out(ids)
    choices = _every_choice(parts, needed)
    losses = {choice: divergence(view, choice, searched) for choice in choices}
    best = min(losses, key=lambda choice: losses[choice])
    assert found.best.kl == pytest.approx(losses[best], rel=1e-4)
    assert found.best.parts == best
    assert found.best.saved == saved_by(best)
    assert found.best.kl_held == pytest.approx(divergence(view, best, held), rel=1e-4)
    assert found.tokens == (4 * 12, 12)
    for part in parts:
        assert found.losses[part] == pytest.approx(divergence(view, [part], searched), rel=1e-3, abs=1e-7)

    sums = {choice: sum(found.losses[part] for part in choice) for choice in choices}
    first = min(sums, key=lambda choice: sums[choice])
    assert found.summed == pytest.approx(sums[first])
    assert found.summed_kl == pytest.approx(losses[first], rel=1e-4)

    alone = [choice for choice in choices if all(part.goes == WHOLE for part in choice)]
    assert found.blocks_alone is not None
    assert found.blocks_alone.kl == pytest.approx(min(losses[choice] for choice in alone), rel=1e-4)
    assert found.best.kl <= found.blocks_alone.kl
    assert found.judged <= 200


def test_few_judgements_are_kept_to(view: BlockModel, make_ids: Ids) -> None:
    few = search_parts(view, make_ids(5, 12), all_parts(4), needed=12, evaluations=6)
    assert few.judged <= 6 + 1  # the start by sums is judged in any case
    many = search_parts(view, make_ids(5, 12), all_parts(4), needed=12, evaluations=100)
    assert many.best.kl <= few.best.kl


def test_the_same_twice_is_the_same_to_the_bit(view: BlockModel, make_ids: Ids) -> None:
    def run() -> JointFound:
        return search_parts(view, make_ids(4, 12), all_parts(4), needed=10, evaluations=40)

    assert run() == run()


def test_only_what_may_go_goes_and_one_block_stays_in_part(view: BlockModel, make_ids: Ids) -> None:
    attentions = [part for part in all_parts(4) if part.goes == "attention"]
    found = search_parts(view, make_ids(3, 12), attentions, needed=8, evaluations=20)
    assert set(found.best.parts) == set(attentions)
    assert found.blocks_alone is None

    everything = search_parts(view, make_ids(3, 12), all_parts(4), needed=3 * 7 + 5, evaluations=60)
    goes = [part.goes for part in everything.best.parts]
    assert sorted(goes) == sorted([WHOLE] * 3 + ["mlp"])
    kept = next(part.block for part in everything.best.parts if part.goes == "mlp")
    alone = {block: everything.losses[Part(block, WHOLE, 7)] for block in range(4)}
    assert kept == max(alone, key=lambda block: alone[block])
    assert everything.blocks_alone is None
