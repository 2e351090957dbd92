from __future__ import annotations

from typing import Any

import pytest

from secateur.contract.depth import blocks_to_remove, check_depth, not_gguf, plus_protected
from secateur.contract.errors import InvalidInput
from secateur.contract.options.pruning import DepthPruning


def test_the_plus_rule_keeps_the_first_four_and_the_last_two() -> None:
    assert plus_protected(30) == (0, 1, 2, 3, 28, 29)
    assert plus_protected(6) == (0, 1, 2, 3, 4, 5)
    assert plus_protected(3) == (0, 1, 2)
    assert plus_protected(5) == (0, 1, 2, 3, 4)
    assert plus_protected(0) == ()
    assert plus_protected(10**15) == (0, 1, 2, 3, 10**15 - 2, 10**15 - 1), "the number alone costs nothing"


@pytest.mark.parametrize(
    ("pruning", "count"), [({"blocks": 6}, 6), ({"ratio": 0.2}, 6), ({"ratio": 0.001}, 1), ({"drop": (3, 9)}, 2)]
)
def test_how_many_go(pruning: dict[str, Any], count: int) -> None:
    assert blocks_to_remove(DepthPruning(**pruning), 30) == count


@pytest.mark.parametrize(
    ("pruning", "plus"),
    [
        ({"blocks": 24}, True),
        ({"blocks": 29}, False),
        ({"ratio": 0.8}, True),
        ({"drop": (0, 29)}, True),
        ({"drop": tuple(range(29))}, False),
    ],
)
def test_as_many_as_may_go(pruning: dict[str, Any], plus: bool) -> None:
    check_depth(DepthPruning(**pruning), 30, plus=plus)


@pytest.mark.parametrize(
    ("pruning", "plus", "blocks", "pointer", "expected"),
    [
        ({"blocks": 25}, True, 30, "/pruning/blocks", 'at most 24 blocks, or "plus": false in `scoring`'),
        ({"blocks": 30}, True, 30, "/pruning/blocks", "at most 24 blocks"),
        ({"blocks": 30}, False, 30, "/pruning/blocks", "at most 29 blocks"),
        ({"ratio": 0.9}, True, 30, "/pruning/ratio", "a ratio that removes at most 24 of 30 blocks"),
        ({"blocks": 1}, True, 6, "/pruning/blocks", "a larger model"),
        ({"blocks": 1}, False, 1, "/pruning/blocks", "a model of at least 2 blocks"),
        ({"drop": (3, 30)}, True, 30, "/pruning/drop/1", "a block from 0 to 29"),
        ({"drop": (0, 1)}, True, 2, "/pruning/drop", "at most 1 blocks"),
    ],
)
def test_more_than_may_go(pruning: dict[str, Any], plus: bool, blocks: int, pointer: str, expected: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_depth(DepthPruning(**pruning), blocks, plus=plus)
    (error,) = caught.value.errors
    assert error.pointer == pointer
    assert expected in (error.expected or "")


@pytest.mark.parametrize(
    ("pruning", "plus", "blocks", "detail"),
    [
        ({"blocks": 25}, True, 30, '`blocks` removes 25 blocks, and the model has 30, of which the "+" rule keeps 6'),
        ({"blocks": 30}, True, 30, "`blocks` removes 30 blocks, and the model has 30"),
        ({"blocks": 31}, True, 30, "`blocks` removes 31 blocks, and the model has 30"),
        ({"blocks": 30}, False, 30, "`blocks` removes 30 blocks, and the model has 30"),
        ({"ratio": 0.9}, True, 30, '`ratio` removes 27 blocks, and the model has 30, of which the "+" rule keeps 6'),
        ({"ratio": 0.99}, False, 30, "`ratio` removes 30 blocks, and the model has 30"),
    ],
)
def test_what_was_asked_for_is_told(pruning: dict[str, Any], plus: bool, blocks: int, detail: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_depth(DepthPruning(**pruning), blocks, plus=plus)
    (error,) = caught.value.errors
    (value,) = pruning.values()
    assert (error.detail, error.value) == (detail, value)
    assert ("in `scoring`" in (error.expected or "")) is ("rule keeps" in detail)


def test_each_block_that_there_is_not_is_named_where_it_stands() -> None:
    with pytest.raises(InvalidInput) as caught:
        check_depth(DepthPruning(drop=(2, 30, 35)), 30, plus=False, pointer="/here")
    assert [(error.pointer, error.value) for error in caught.value.errors] == [
        ("/here/drop/1", 30),
        ("/here/drop/2", 35),
    ]
    assert caught.value.detail == "there is no block 30: the model has 30, counted from 0"


def test_the_pointer_is_that_of_who_asks() -> None:
    with pytest.raises(InvalidInput) as caught:
        check_depth(DepthPruning(blocks=3), 3, plus=False, pointer="/here")
    assert caught.value.errors[0].pointer == "/here/blocks"


def test_a_model_that_is_no_gguf_file_is_told_what_it_may_ask_for() -> None:
    (error,) = not_gguf().errors
    assert (error.pointer, error.value) == ("/pruning/gguf", True)
    assert "no `gguf`" in (error.expected or "")
