"""Module names in a quantiser's settings follow their blocks."""

from __future__ import annotations

from typing import Any

import pytest

from app.errors import UnsupportedModel
from workers.engine.pruning.module_names import renumber_module_names

NUMBERS = {0: 0, 2: 1, 13: 2}  # block 1 is dropped


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("model.layers.2.mlp", "model.layers.1.mlp"),
        ("layers.13", "layers.2"),
        ("re:.*layers\\.2\\..*", "re:.*layers\\.1\\..*"),
        (["a.layers.1.x", "lm_head", "a.layers.13.x"], ["lm_head", "a.layers.2.x"]),
        ([["layers.1.x"], ["layers.0.x"]], [[], ["layers.0.x"]]),
        ({"+:model\\.layers\\.1\\.": {"bits": 8}, "layers.2": {"bits": 4}}, {"layers.1": {"bits": 4}}),
        ({"a": "layers.1.x", "b": 1, "c": None}, {"b": 1, "c": None}),
        ("re:.*layers\\.[0-9]+\\.mlp", "re:.*layers\\.[0-9]+\\.mlp"),
        ("re:.*layers\\.(\\d+)\\.mlp", "re:.*layers\\.(\\d+)\\.mlp"),
        ("model.sublayers.1.x", "model.sublayers.1.x"),
        ("experts.1", "experts.1"),
        (3, 3),
    ],
)
def test_names_follow(settings: Any, expected: Any) -> None:
    assert renumber_module_names(settings, "layers", NUMBERS) == expected


@pytest.mark.parametrize(
    "pattern", ["re:.*layers\\.(0|1|2)\\.mlp", "re:model.layers.[1-3].mlp", "layers\\.(?:1[0-5])\\."]
)
def test_sets_of_numbers_are_refused(pattern: str) -> None:
    with pytest.raises(UnsupportedModel, match="cannot be renumbered"):
        renumber_module_names({"ignore": [pattern]}, "layers", NUMBERS)
