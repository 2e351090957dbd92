"""From an order to the blocks that go."""

from __future__ import annotations

import pytest

from secateur.contract.errors import InvalidInput
from workers.engine.pruning.plan import choose_blocks, count_from_ratio, protected_by_plus
from workers.engine.scoring.result import BlockScores, ascending


def test_the_plus_rule_keeps_the_first_four_and_the_last_two() -> None:
    assert protected_by_plus(32) == {0, 1, 2, 3, 30, 31}
    assert protected_by_plus(5) == {0, 1, 2, 3, 4}


def test_choose_passes_over_protected_blocks_and_keeps_the_order() -> None:
    scores = BlockScores.lowest_first([1.0, 9.0, 3.0, 2.0, 0.5, 7.0])
    assert scores.order == [4, 0, 3, 2, 5, 1]
    assert choose_blocks(scores, count=3, protected={0, 4}) == [3, 2, 5]
    assert choose_blocks(scores, count=2, protected=()) == [4, 0]


def test_equal_and_missing_values_have_a_fixed_order() -> None:
    assert ascending([2.0, None, 1.0, 2.0, None]) == [2, 0, 3, 1, 4]


@pytest.mark.parametrize(("count", "protected"), [(0, ()), (-1, ()), (6, ()), (3, (0, 1, 2, 5))])
def test_too_many_or_none_are_refused(count: int, protected: tuple[int, ...]) -> None:
    scores = BlockScores.lowest_first([1.0, 9.0, 3.0, 2.0, 0.5, 7.0])
    with pytest.raises(InvalidInput) as caught:
        choose_blocks(scores, count=count, protected=protected)
    assert caught.value.errors[0].pointer == "blocks"
    assert caught.value.errors[0].value == count


def test_an_order_of_a_search_gives_no_more_than_it_ranked() -> None:
    scores = BlockScores([None] * 8, None, [3, 4], {})
    assert choose_blocks(scores, count=2, protected={0}) == [3, 4]
    with pytest.raises(InvalidInput, match="ranked 2"):
        choose_blocks(scores, count=3, protected={0})


@pytest.mark.parametrize(("ratio", "count"), [(0.2, 6), (0.01, 1), (0.5, 15), (0.95, 28)])
def test_ratio_is_rounded_to_whole_blocks(ratio: float, count: int) -> None:
    assert count_from_ratio(30, ratio) == count


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (0.0, "a number between 0 and 1, both excluded"),
        (1.0, "a number between 0 and 1, both excluded"),
        (-0.5, "a number between 0 and 1, both excluded"),
        (1.5, "a number between 0 and 1, both excluded"),
        (float("nan"), "a number between 0 and 1, both excluded"),
        (0.999, "a ratio that leaves at least one block"),
    ],
)
def test_ratios_that_remove_nothing_or_all_are_refused(ratio: float, expected: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        count_from_ratio(30, ratio)
    (error,) = caught.value.errors
    assert (error.pointer, error.expected) == ("ratio", expected)
    assert error.value is ratio


def test_a_model_of_one_block_or_none_gives_none() -> None:
    for blocks in (0, 1):
        with pytest.raises(InvalidInput, match=f"removes all {blocks} blocks"):
            count_from_ratio(blocks, 0.5)
    assert count_from_ratio(2, 0.5) == 1
