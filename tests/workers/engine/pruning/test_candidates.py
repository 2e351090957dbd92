"""The sets that are compared after healing: the criterion's own, runs and swaps, as the criterion holds them."""

from __future__ import annotations

import pytest

from secateur.contract.errors import InvalidInput
from workers.engine.pruning.candidates import candidates
from workers.engine.scoring.result import BlockScores

SCORES = BlockScores.lowest_first([9.0, 8.0, 3.0, 1.0, 2.0, 7.0, 0.5, 4.0, 5.0, 9.0])
ENDS = {0, 9}


def test_the_criterions_own_comes_first_then_runs_and_swaps_in_turn() -> None:
    found = candidates(SCORES, count=3, protected=ENDS, most=5)
    assert [(set_.blocks, set_.origin) for set_ in found] == [
        ((3, 4, 6), "criterion"),
        ((2, 3, 4), "run"),  # places 3, 1 and 2 of the order; no other run has less in all
        ((2, 3, 6), "swap"),  # the last that goes for the first that stays
        ((4, 5, 6), "run"),
        ((3, 6, 7), "swap"),
    ]


def test_no_set_comes_twice_and_none_holds_what_may_not_go() -> None:
    found = candidates(SCORES, count=3, protected=ENDS, most=1000)
    sets = [set_.blocks for set_ in found]
    assert len(set(sets)) == len(sets)
    assert all(ENDS.isdisjoint(blocks) and len(blocks) == 3 for blocks in sets)
    runs = {tuple(range(start, start + 3)) for start in range(1, 7)}
    assert runs <= set(sets)
    swapped = [set_.blocks for set_ in found if set_.origin == "swap"]
    assert all(len({3, 4, 6} & set(blocks)) == 2 for blocks in swapped)


def test_a_criterion_whose_own_set_is_a_run() -> None:
    found = candidates(BlockScores.lowest_first([3.0, 0.0, 1.0, 2.0]), count=2, protected=(), most=3)
    assert [(set_.blocks, set_.origin) for set_ in found] == [
        ((1, 2), "criterion"),
        ((1, 3), "swap"),
        ((0, 1), "run"),
    ]


def test_blocks_that_a_search_did_not_rank_follow_by_their_values() -> None:
    scores = BlockScores([0.4, None, 0.3, None, 0.1, None, 0.2], None, [6, 0])
    found = candidates(scores, count=2, protected={1, 3, 5}, most=4)
    assert [set_.blocks for set_ in found] == [(0, 6), (4, 6), (2, 6), (0, 4)]


def test_of_a_criterion_of_runs_the_values_are_theirs() -> None:
    values = [0.9, 0.8, 0.3, 0.1, 0.2, 0.7, 0.5, 0.4, None, None]
    found = candidates(BlockScores(values, None, [3, 4, 5]), count=3, protected=ENDS, most=100, of_runs=True)
    assert found[0].blocks == (3, 4, 5)
    assert [set_.blocks[0] for set_ in found if set_.origin == "run"][:2] == [4, 2]
    assert {set_.blocks[0] for set_ in found if set_.origin == "run"} == {1, 2, 4, 5, 6}
    first_swap = next(set_.blocks for set_ in found if set_.origin == "swap")
    assert first_swap == (3, 4, 6), "what comes in is of the next best run"


def test_where_there_is_no_other_set() -> None:
    assert [set_.blocks for set_ in candidates(SCORES, count=8, protected=ENDS, most=9)] == [tuple(range(1, 9))]


def test_more_than_may_go() -> None:
    with pytest.raises(InvalidInput):
        candidates(SCORES, count=9, protected=ENDS, most=9)
