"""What is known of a model by its config, which anybody may have written."""

from __future__ import annotations

from typing import Any

import pytest

from secateur.contract.errors import BadCheckpoint
from secateur.contract.estimates.model import known_model
from tests.fixtures.smollm2 import SMOLLM2_CONFIG

MIXTURE = {"model_type": "qwen3_moe", "moe_intermediate_size": 64, "num_experts": 8, "num_experts_per_tok": 2}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"vocab_size": 0}, "vocab_size is 0"),
        (
            {**MIXTURE, "intermediate_size": [1, 2]},
            "intermediate_size is not a size",
        ),  # which experts have of their own
        ({**MIXTURE, "intermediate_size": "many"}, "intermediate_size is not a size"),
        ({"num_experts": "many"}, "num_experts is not a size"),
    ],
)
def test_sizes_that_are_none_are_refused(change: dict[str, Any], words: str) -> None:
    """Estimates of memory read more than the formula of parameters, and broke on these."""
    with pytest.raises(BadCheckpoint, match=words):
        known_model({**SMOLLM2_CONFIG, **change})
    assert known_model({**SMOLLM2_CONFIG, **change, "vocab_size": 9, "intermediate_size": 64, "num_experts": 8})
