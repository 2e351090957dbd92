"""A gate that nothing can be held to is told before anything is measured, and no other gate is."""

from __future__ import annotations

from typing import Any

import pytest

from secateur.contract.gate_needs import without_measurement
from secateur.contract.options.gates import GATES
from secateur.contract.spec import CompressionSpec

LEAVES_OUT: dict[str, dict[str, Any]] = {
    "latency": {"latency": None},
    "perplexity": {"perplexity": None},
    "fidelity": {"fidelity": {"enabled": False}},
    "tasks": {"tasks": None},
    "samples": {"samples": None},
    "generation": {"generation": None},
}
NEEDS = {
    "min_speedup": "latency",
    "max_perplexity_ratio": "perplexity",
    "max_kl": "fidelity",
    "min_top1_agreement": "fidelity",
    "max_accuracy_drop": "tasks",
    "max_exact_match_drop": "generation",
    "min_same_text": "generation",
    "max_repetition": "samples",
    "min_sample_length": "samples",
    "max_parameters": None,
    "max_bytes": None,
}
EVERYTHING = {"tasks": {"tasks": ["piqa"]}}


def spec(gates: dict[str, Any], benchmark: dict[str, Any]) -> CompressionSpec:
    return CompressionSpec.model_validate(
        {
            "model": {"source": "hub", "id": "some/model"},
            "pruning": {"kind": "depth", "blocks": 1},
            "benchmark": {**EVERYTHING, **benchmark},
            "gates": gates,
        }
    )


@pytest.mark.parametrize("left_out", LEAVES_OUT)
@pytest.mark.parametrize("gate", GATES)
def test_a_gate_needs_its_own_part_of_the_benchmark_and_no_other(gate: str, left_out: str) -> None:
    found = without_measurement(spec({gate: 1}, LEAVES_OUT[left_out]))
    if NEEDS[gate] != left_out:
        assert found == []
        return
    (error,) = found
    assert error.pointer == f"/gates/{gate}"
    assert error.value == 1
    assert error.detail == f"`{gate}` judges what the job does not measure: /benchmark/{left_out} leaves it out"
    assert error.expected == f"no such gate, or a benchmark with `{left_out}`"


def test_every_such_gate_is_told() -> None:
    found = without_measurement(spec({"min_speedup": 1, "max_accuracy_drop": 0.1}, {"latency": None, "tasks": None}))
    assert [error.pointer for error in found] == ["/gates/min_speedup", "/gates/max_accuracy_drop"]


@pytest.mark.parametrize(
    ("gates", "perplexity", "refused"),
    [
        ({"max_kl": 1}, {"windows": 1}, True),
        ({"max_kl": 1}, {"windows": 2}, False),
        ({"max_kl": 1}, None, False),
        ({"max_kl": 1, "judge": "median"}, {"windows": 1}, False),
        ({"max_perplexity_ratio": 1}, {"windows": 1}, True),
        ({"min_top1_agreement": 1}, {"windows": 1}, True),
        ({"min_speedup": 1, "max_bytes": 1, "max_accuracy_drop": 1}, {"windows": 1}, False),
    ],
)
def test_an_interval_needs_two_windows(gates: dict[str, Any], perplexity: dict[str, Any] | None, refused: bool) -> None:
    found = without_measurement(spec(gates, {"perplexity": perplexity}))
    assert bool(found) == refused
    if refused:
        assert found[0].expected == 'at least 2 in /benchmark/perplexity/windows, or "judge": "median"'
