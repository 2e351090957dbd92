"""Every place of a spec that asks for more tokens than a model holds, and what is cut where nobody asked."""

from __future__ import annotations

from typing import Any

import pytest

from secateur.contract.models.positions import fitting_latency, fitting_samples, positions_of, too_long
from secateur.contract.options.benchmarks.latency import LatencyBenchmark
from secateur.contract.options.benchmarks.samples import SamplesBenchmark
from secateur.contract.spec import CompressionSpec

SHORT: dict[str, Any] = {  # all of it within 64 tokens
    "model": {"source": "local", "path": "m"},
    "scoring": {"criterion": "perplexity", "calibration": {"tokens": 32}},
    "pruning": {"kind": "depth", "blocks": 1},
    "recovery": {"kind": "lora", "tokens": 32},
    "benchmark": {"perplexity": {"tokens": 32}},
}


def pointers(positions: int | None, **changes: Any) -> list[str]:
    fields = too_long(CompressionSpec.model_validate({**SHORT, **changes}), positions)
    assert all(field.expected and field.value for field in fields)
    return [field.pointer for field in fields]


@pytest.mark.parametrize(
    ("config", "positions"),
    [
        ({"max_position_embeddings": 64}, 64),
        ({"n_positions": 64, "n_ctx": 32}, 64),
        ({"max_seq_len": 64}, 64),
        ({}, None),
        ({"max_position_embeddings": None}, None),
        ({"max_position_embeddings": "64"}, None),
        ({"max_position_embeddings": True}, None),
        ({"max_position_embeddings": 0}, None),
        ({"max_position_embeddings": -1, "n_positions": 64}, 64),
    ],
)
def test_positions_are_read_off_the_config(config: dict[str, Any], positions: int | None) -> None:
    assert positions_of(config) == positions


def test_default_lengths_fit_and_nothing_else_is_said() -> None:
    assert pointers(64) == []
    assert pointers(None, benchmark={"perplexity": {"tokens": 9999}}) == []


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"scoring": {"criterion": "perplexity", "calibration": {"tokens": 65}}}, "/scoring/calibration/tokens"),
        ({"recovery": {"kind": "lora", "tokens": 65}}, "/recovery/tokens"),
        ({"recovery": {"kind": "distill", "tokens": 65}}, "/recovery/tokens"),
        ({"benchmark": {"perplexity": {"tokens": 65}}}, "/benchmark/perplexity/tokens"),
        ({"benchmark": {"perplexity": None}}, "/benchmark/perplexity/tokens"),  # fidelity's windows of 128
        (
            {"benchmark": {"perplexity": {"tokens": 32}, "latency": {"output_tokens": [32, 53]}}},
            "/benchmark/latency/output_tokens/1",
        ),
        (
            {"benchmark": {"perplexity": {"tokens": 32}, "latency": {"input_tokens": 63}}},
            "/benchmark/latency/input_tokens",
        ),
        (
            {"benchmark": {"perplexity": {"tokens": 32}, "samples": {"max_new_tokens": 64}}},
            "/benchmark/samples/max_new_tokens",
        ),
        (
            {
                "scoring": {"criterion": "perplexity"},
                "pruning": {"kind": "wanda_sp", "ratio": 0.2, "calibration": {"tokens": 65}},
            },
            "/pruning/calibration/tokens",
        ),
    ],
)
def test_what_is_too_long_is_named(changes: dict[str, Any], pointer: str) -> None:
    assert pointers(64, **changes) == [pointer]
    assert pointers(256, **changes) == []


def test_a_calibration_that_no_stage_reads_may_be_of_any_length() -> None:
    named = {"kind": "depth", "drop": [1]}
    assert pointers(64, pruning=named, scoring={"criterion": "perplexity", "calibration": {"tokens": 128}}) == []


def test_the_usual_output_is_cut_and_any_other_is_as_it_was_asked_for() -> None:
    assert fitting_latency(LatencyBenchmark(), 64).output_tokens == (52,)
    assert fitting_latency(LatencyBenchmark(), 140).output_tokens == (128,)
    assert fitting_latency(LatencyBenchmark(), 139).output_tokens == (127,)
    assert fitting_latency(LatencyBenchmark(), None).output_tokens == (128,)
    assert fitting_latency(LatencyBenchmark(), 13).output_tokens == (128,)  # then the prompt is refused
    asked = LatencyBenchmark(output_tokens=(100,))
    assert fitting_latency(asked, 64) is asked
    assert fitting_samples(SamplesBenchmark(), 64).max_new_tokens == 32
    assert fitting_samples(SamplesBenchmark(), 96).max_new_tokens == 48
    written = SamplesBenchmark(max_new_tokens=60)
    assert fitting_samples(written, 64) is written
