"""Walks over sets of removals: states, passes, and what a cache saves."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workers.engine.model.block_model import BlockModel
from workers.engine.scoring.subsets import Removal, StateCache, passes_needed, states_at_once, walk


def _plain(view: BlockModel, ids: Tensor, removal: Removal) -> Tensor:
    hidden = view.embed(ids)
    with torch.no_grad():
        for block in view.blocks([block for block in range(view.n_blocks) if block not in removal]):
            hidden = block(hidden)
    return hidden


def test_every_removal_gets_the_state_of_the_model_without_it(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    view, ids = BlockModel.from_model(make_model(num_hidden_layers=6)), make_ids(2, 12)
    removals = [frozenset(), *map(frozenset, combinations(range(6), 2)), frozenset(range(5)), frozenset({0, 5})]
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1

    found = {removal: state.clone() for removal, state in walk(view, ids, removals, on_pass=count)}
    assert found.keys() == set(removals)
    for removal in removals:
        torch.testing.assert_close(found[removal], _plain(view, ids, removal), rtol=1e-4, atol=1e-5)
    assert calls == passes_needed(6, removals) < sum(6 - len(removal) for removal in removals)


def test_more_samples_than_go_through_a_block_at_once(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    view, ids = BlockModel.from_model(make_model()), make_ids(70, 32)  # 2,240 tokens
    for removal, state in walk(view, ids, [frozenset({1}), frozenset({2})]):
        torch.testing.assert_close(state, _plain(view, ids, removal), rtol=1e-4, atol=1e-5)


def test_leave_one_out_takes_n_squared_halves(make_model: Callable[..., PreTrainedModel]) -> None:
    removals = [frozenset(), *(frozenset({block}) for block in range(30))]
    assert passes_needed(30, removals) == 30 + 30 * 29 // 2
    assert states_at_once(30, removals) == 32


def test_a_cache_saves_what_lies_before_the_change(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    view, ids = BlockModel.from_model(make_model(num_hidden_layers=6)), make_ids(2, 12)
    cache = StateCache(limit=2**30)
    first = [frozenset({block}) for block in range(6)]
    for _ in walk(view, ids, first, cache=cache):
        pass
    second = [frozenset({4, block}) for block in range(6) if block != 4]
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1

    for removal, state in walk(view, ids, second, cache=cache, on_pass=count):
        torch.testing.assert_close(state, _plain(view, ids, removal), rtol=1e-4, atol=1e-5)
    assert calls == 4  # only block 5 is left for the removals with 0, 1, 2 and 3; {4, 5} was known at depth 5
    assert calls < passes_needed(6, second)


def test_a_cache_keeps_to_its_limit(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    view, ids = BlockModel.from_model(make_model(num_hidden_layers=6)), make_ids(2, 12)
    one = 2 * 12 * 32 * 4
    cache = StateCache(limit=5 * one)
    for _ in walk(view, ids, [frozenset({block}) for block in range(6)], cache=cache):
        pass
    distinct = {id(state) for states in cache.states.values() for state in states.values()}
    assert len(distinct) <= 5
    assert cache.held <= cache.limit
    cache.keep(lambda depth, prefix: depth == 0)
    assert cache.held <= one
