"""The arithmetic of joint pruning: what may go, what all of it saves, and how much a target needs."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from secateur.contract.errors import InvalidInput
from secateur.contract.joint import Part, check_joint, largest, needed_of, parts_of, saved_by, units_of
from secateur.contract.options.joint import JointPruning
from secateur.contract.options.target import Target
from secateur.contract.targets import Sizes

SAVED = {"attention": 2, "mlp": 5, "block": 8}


def pruning(**options: Any) -> JointPruning:
    return JointPruning.model_validate({"kind": "joint", "target": {"parameters": 0.8}, **options})


def parts(blocks: int = 3, **options: Any) -> list[Part]:
    return parts_of(pruning(**options), blocks, lambda block, goes: SAVED[goes])


def test_what_may_go() -> None:
    assert [(part.block, part.goes) for part in parts(2)] == [*product(range(2), ("attention", "mlp", "block"))]
    kept = parts(2, protected=["0.mlp"])
    assert [(part.block, part.goes) for part in kept if part.block == 0] == [(0, "attention")]
    assert {part.goes for part in parts(choices=["block", "attention"])} == {"attention", "block"}
    assert {part.block for part in parts(9, plus=True)} == {4, 5, 6}
    assert parts_of(pruning(), 3, lambda block, goes: 0) == []
    assert units_of([Part(3, "block", 8), Part(4, "mlp", 5)]) == ["3.attention", "3.mlp", "4.mlp"]


@pytest.mark.parametrize(
    ("options", "most"),
    [({}, 8 + 8 + 5), ({"choices": ["block"]}, 16), ({"protected": ["1.attention"]}, 21), ({"choices": ["mlp"]}, 15)],
)
def test_one_block_stays_at_least_in_part(options: dict[str, Any], most: int) -> None:
    found = largest(parts(3, **options), 3)
    assert saved_by(found) == most
    assert len(units_of(found)) < 6
    assert len({part.block for part in found}) == len(found)


def test_how_much_a_target_needs() -> None:
    sizes = Sizes([8, 8, 8], 76, 100)
    assert needed_of(Target(parameters=0.85), sizes, parts()) == 15
    assert needed_of(Target(bytes=93), sizes, parts()) == 7
    assert needed_of(Target(parameters=0.95), Sizes([8, 8, 8], 70, 100), parts()) == 1, "parts go with any block"
    with pytest.raises(InvalidInput, match="no more than 100 parameters as it is"):
        needed_of(Target(parameters=100), sizes, parts())
    with pytest.raises(InvalidInput, match="the model has 79 parameters even without all that may go") as caught:
        needed_of(Target(parameters=0.78), sizes, parts())
    assert caught.value.errors[0].expected == "at least 0.79, fewer protected halves, or more choices"


@pytest.mark.parametrize(
    ("options", "pointer"),
    [
        ({"protected": ["2.mlp", "3.mlp"]}, "/pruning/protected/1"),
        ({"plus": True}, "/pruning/plus"),
        ({"choices": ["mlp"], "protected": ["0.mlp", "1.mlp", "2.mlp"]}, "/pruning/choices"),
    ],
)
def test_what_a_model_has_not_got_is_refused(options: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_joint(pruning(**options), 3)
    assert [error.pointer for error in caught.value.errors] == [pointer]
    check_joint(pruning(), 3)
