"""How many experts are asked to go, and what a config says of how many there are."""

from __future__ import annotations

from typing import Any

import pytest

from secateur.contract.errors import InvalidInput
from secateur.contract.experts import check_experts, experts_to_remove
from secateur.contract.models.mixtures import expert_count
from secateur.contract.options.pruning import ExpertPruning


def pruning(**fields: Any) -> ExpertPruning:
    return ExpertPruning.model_validate({"kind": "experts", **fields})


@pytest.mark.parametrize(
    ("fields", "experts", "gone"),
    [
        ({"experts": 3}, 8, 3),
        ({"ratio": 0.25}, 128, 32),
        ({"ratio": 0.3}, 8, 2),
        ({"ratio": 0.01}, 8, 1),
        ({"ratio": 0.99}, 60, 59),
    ],
)
def test_how_many_go(fields: dict[str, Any], experts: int, gone: int) -> None:
    assert experts_to_remove(pruning(**fields), experts) == gone
    check_experts(pruning(**fields), experts)


@pytest.mark.parametrize(
    ("fields", "experts", "pointer", "expected"),
    [
        ({"experts": 8}, 8, "/pruning/experts", "at most 7"),
        ({"ratio": 0.99}, 8, "/pruning/ratio", "a ratio that removes at most 7 of 8 experts"),
        ({"ratio": 0.5}, 1, "/pruning/ratio", "another kind of pruning"),
    ],
)
def test_one_expert_stays(fields: dict[str, Any], experts: int, pointer: str, expected: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_experts(pruning(**fields), experts)
    (error,) = caught.value.errors
    assert (error.pointer, error.expected) == (pointer, expected)
    assert error.value == next(iter(fields.values()))


@pytest.mark.parametrize(
    ("config", "count"),
    [
        ({"model_type": "mixtral", "num_local_experts": 8}, 8),
        ({"model_type": "deepseek_v3", "n_routed_experts": 256}, 256),
        ({"model_type": "llama"}, 0),
        ({"model_type": "nonesuch", "num_experts": 0}, 0),
        ({"model_type": "mixtral"}, None),  # its class has a default
        ({"model_type": "nonesuch"}, None),
        ({"model_type": "nonesuch", "num_experts": None}, None),
    ],
)
def test_experts_by_the_config(config: dict[str, Any], count: int | None) -> None:
    assert expert_count(config) == count
