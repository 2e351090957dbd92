"""From config.json to transformers' class: what the file says is what the class is given."""

from __future__ import annotations

import math

from workers.engine.architectures.config import as_config


def test_numbers_that_json_has_not_are_read_as_transformers_writes_them() -> None:
    tagged = {"__float__": "Infinity"}
    found = as_config({"model_type": "llama", "limits": [0.0, tagged], "a": {"b": {"__float__": "-Infinity"}}})
    assert found.limits == [0.0, math.inf]
    assert found.a == {"b": -math.inf}
    assert as_config({"model_type": "llama", "a": {"__float__": "much"}}).a == {"__float__": "much"}
