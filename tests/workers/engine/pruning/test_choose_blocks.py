"""From an order to the blocks that go."""

from __future__ import annotations

import pytest

from secateur.contract.errors import InvalidInput
from workers.engine.pruning.choose_blocks import choose_blocks
from workers.engine.scoring.result import BlockScores, ascending


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
