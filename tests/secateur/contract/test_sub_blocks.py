from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from secateur.contract.errors import InvalidInput
from secateur.contract.options.pruning import SubBlockPruning
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_kinds import kinds_of
from secateur.contract.sub_blocks import check_units, protected_units, unit_names, units_to_remove
from secateur.contract.validation_errors import field_errors

MODEL = {"source": "local", "path": "model"}


def pruning(**fields: Any) -> SubBlockPruning:
    return SubBlockPruning.model_validate({"kind": "sub_block", **fields})


def test_units_are_named_block_by_block() -> None:
    assert unit_names(2) == ["0.attention", "0.mlp", "1.attention", "1.mlp"]


@pytest.mark.parametrize(
    ("fields", "count"),
    [({"units": 7}, 7), ({"ratio": 0.25}, 15), ({"ratio": 0.001}, 1), ({"drop": ["3.mlp", "9.attention"]}, 2)],
)
def test_how_many_go(fields: dict[str, Any], count: int) -> None:
    assert units_to_remove(pruning(**fields), 30) == count


def test_what_is_protected() -> None:
    assert protected_units(pruning(units=1), 8) == []
    assert protected_units(pruning(units=1, protected=["5.mlp", "0.mlp"]), 8) == ["0.mlp", "5.mlp"]
    plus = protected_units(pruning(units=1, plus=True, protected=["4.mlp"]), 8)
    assert plus == [*unit_names(4), "4.mlp", "6.attention", "6.mlp", "7.attention", "7.mlp"]


@pytest.mark.parametrize(
    ("fields", "blocks"),
    [({"units": 11}, 6), ({"units": 3, "plus": True}, 8), ({"ratio": 0.9}, 6), ({"drop": ["5.mlp"]}, 6)],
)
def test_as_many_as_may_go(fields: dict[str, Any], blocks: int) -> None:
    check_units(pruning(**fields), blocks)


@pytest.mark.parametrize(
    ("fields", "blocks", "pointer", "expected"),
    [
        ({"units": 12}, 6, "/pruning/units", "at most 11 units"),
        ({"units": 5, "plus": True}, 8, "/pruning/units", "at most 4 units"),
        ({"units": 1, "plus": True}, 6, "/pruning/units", "fewer protected units"),
        ({"ratio": 0.99}, 6, "/pruning/ratio", "a ratio that removes at most 11 of 12 units"),
        ({"drop": ["0.mlp", "6.mlp"]}, 6, "/pruning/drop/1", "a unit from 0.attention to 5.mlp"),
        ({"drop": unit_names(3)}, 3, "/pruning/drop", "at most 5 units"),
        ({"units": 1, "protected": ["7.mlp"]}, 6, "/pruning/protected/0", "a unit from 0.attention to 5.mlp"),
    ],
)
def test_what_a_model_cannot_give(fields: dict[str, Any], blocks: int, pointer: str, expected: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_units(pruning(**fields), blocks)
    (error,) = caught.value.errors
    assert (error.pointer, error.expected) == (pointer, expected)


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({}, "/pruning"),
        ({"units": 1, "ratio": 0.5}, "/pruning"),
        ({"drop": ["3.mlp", "3.mlp"]}, "/pruning/drop"),
        ({"drop": ["3.heads"]}, "/pruning/drop/0"),
        ({"drop": []}, "/pruning/drop"),
        ({"units": 1, "protected": ["03.mlp"]}, "/pruning/protected/0"),
        ({"drop": ["3.mlp"], "plus": True}, "/pruning/plus"),
        ({"drop": ["3.mlp"], "protected": ["4.mlp"]}, "/pruning/protected"),
        ({"drop": ["3.mlp"], "calibration": {"samples": 3}}, "/pruning/calibration"),
    ],
)
def test_what_is_refused_without_a_model(fields: dict[str, Any], pointer: str) -> None:
    with pytest.raises(ValidationError) as caught:
        CompressionSpec.model_validate({"model": MODEL, "pruning": {"kind": "sub_block", **fields}})
    (error,) = field_errors(CompressionSpec, caught.value.errors())
    assert error.pointer == pointer


def test_no_stage_scores_blocks() -> None:
    spec = CompressionSpec.model_validate({"model": MODEL, "pruning": {"kind": "sub_block", "units": 3}})
    assert kinds_of(spec) == (
        "check",
        "prune",
        "recover",
        "benchmark",
        "report",
    )


@pytest.mark.parametrize(
    ("more", "pointer"),
    [
        ({"scoring": {"criterion": "greedy"}}, "/scoring"),
        ({"scoring": {"criterion": "perplexity", "plus": False}}, "/scoring"),
        ({"recovery": {"kind": "healing"}}, "/recovery"),
        ({"recovery": {"kind": "lora", "heal": True}}, "/recovery"),
        ({"recovery": {"kind": "distill", "train": "after_cut"}}, "/recovery"),
    ],
)
@pytest.mark.parametrize("kind", [{"kind": "sub_block", "units": 3}, {"kind": "flap", "ratio": 0.2}])
def test_what_is_for_whole_blocks_only(kind: dict[str, Any], more: dict[str, Any], pointer: str) -> None:
    with pytest.raises(ValidationError) as caught:
        CompressionSpec.model_validate({"model": MODEL, "pruning": kind, **more})
    (error,) = field_errors(CompressionSpec, caught.value.errors())
    assert error.pointer == pointer


def test_a_spec_with_its_defaults_filled_in_is_taken_again() -> None:
    for fields in ({"units": 3}, {"drop": ["3.mlp"]}):
        spec = CompressionSpec.model_validate({"model": MODEL, "pruning": {"kind": "sub_block", **fields}})
        assert CompressionSpec.model_validate(spec.model_dump(mode="json")) == spec


def test_one_half_alone() -> None:
    """The other half's units stay, and a ratio is of those that may go."""
    attention = pruning(ratio=0.25, only="attention")
    assert protected_units(attention, 3) == ["0.mlp", "1.mlp", "2.mlp"]
    assert units_to_remove(attention, 8) == 2
    assert protected_units(pruning(units=1, only="mlp", protected=["1.mlp"]), 2) == [
        "0.attention",
        "1.attention",
        "1.mlp",
    ]
    check_units(pruning(units=8, only="attention"), 8)
    with pytest.raises(InvalidInput, match="removes 9 units, and the model has 16, 8 of which stay") as refused:
        check_units(pruning(units=9, only="attention"), 8)
    assert refused.value.errors[0].expected == "at most 8 units"
    with pytest.raises(ValidationError, match="`only` is for the search"):
        pruning(drop=["3.attention"], only="attention")
