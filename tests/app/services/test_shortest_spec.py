"""The shortest spec means what the whole one means, and nothing can be taken out of it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from app.services.shortest_spec import shortest
from secateur.contract.spec import CompressionSpec

MODEL = {"source": "hub", "id": "some/model"}
DEPTH = {"kind": "depth", "blocks": 2}


@pytest.mark.parametrize(
    "asked",
    [
        {"model": MODEL, "pruning": DEPTH},
        # under a preset that runs LoRA with another rate, the usual recovery and the rate's own default are no defaults
        {"preset": "shortened_llama", "model": MODEL, "pruning": DEPTH, "recovery": {"kind": "distill"}},
        {
            "preset": "best",
            "model": MODEL,
            "pruning": DEPTH,
            "scoring": {"criterion": "healed_greedy", "plus": False},
            "recovery": {"kind": "distill", "heal": None, "batch_size": 8},
        },
        {
            "model": MODEL,
            "pruning": {"kind": "vocabulary", "tokens": 900, "text": {"source": "named", "name": "c4"}},
            "benchmark": {"latency": None},
        },
        {
            "model": MODEL,
            "pruning": {"kind": "depth", "target": {"parameters": 0.8}},
            "quantise": [{"kind": "int4", "group_size": 64}, {"kind": "gguf"}],
            "labels": {"branch": "main"},
        },
    ],
    ids=["plain", "other method", "preset undone", "vocabulary", "lists"],
)
def test_what_was_asked_for_comes_back(asked: dict[str, Any]) -> None:
    whole = CompressionSpec.model_validate(asked).model_dump(mode="json")
    kept = CompressionSpec.model_validate(asked).model_dump(mode="json")
    assert shortest(whole) == asked
    assert whole == kept  # it is a copy that was shortened


def test_what_is_no_spec_is_refused() -> None:
    with pytest.raises(ValidationError):
        shortest({"model": MODEL, "pruning": {"kind": "of an earlier version"}})
