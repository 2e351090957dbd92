"""Every place of a spec that asks for more tokens than a model holds, and what is cut where nobody asked."""

from __future__ import annotations

from typing import Any

import pytest

from secateur.contract.models.positions import fitting_latency, fitting_samples, positions_of, too_long
from secateur.contract.options.benchmark import LatencyBenchmark, SamplesBenchmark
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


def test_the_first_bound_that_a_config_names_holds() -> None:
    assert positions_of({"n_positions": 32, "max_position_embeddings": 64}) == 64
    assert positions_of({"max_position_embeddings": 1}) == 1


def test_the_usual_output_is_left_where_it_fits() -> None:
    usual = LatencyBenchmark()
    for positions in (13, 140, 200):
        assert fitting_latency(usual, positions) is usual
    assert fitting_latency(usual, 14).output_tokens == (2,)
    for asked in (LatencyBenchmark(output_tokens=(200,)), LatencyBenchmark(output_tokens=(32, 128))):
        assert fitting_latency(asked, 64) is asked


def test_the_usual_samples_are_left_where_they_take_half_at_most() -> None:
    usual = SamplesBenchmark()
    new = usual.max_new_tokens
    for positions in (2 * new, 2 * new + 1, 5 * new):
        assert fitting_samples(usual, positions) is usual
    assert fitting_samples(usual, 2 * new - 1).max_new_tokens == new - 1
    assert [fitting_samples(usual, positions).max_new_tokens for positions in (1, 2, 3, 5)] == [1, 1, 1, 2]
    assert isinstance(fitting_samples(usual, 5).max_new_tokens, int)
    fewer = SamplesBenchmark(max_new_tokens=new - 1)
    assert fitting_samples(fewer, 4) is fewer


WINDOWS: dict[str, Any] = {"perplexity": {"tokens": 32}}


@pytest.mark.parametrize(
    ("benchmark", "named"),
    [
        ({**WINDOWS, "latency": {"input_tokens": 62}}, []),  # two are left for the output
        ({**WINDOWS, "latency": {"input_tokens": 62, "output_tokens": [3]}}, ["/benchmark/latency/output_tokens/0"]),
        ({**WINDOWS, "latency": {"input_tokens": 61, "output_tokens": [3]}}, []),
        ({**WINDOWS, "latency": None}, []),
        ({**WINDOWS, "samples": {"max_new_tokens": 63}}, []),
        ({**WINDOWS, "samples": None}, []),
        ({"perplexity": {"tokens": 65}, "fidelity": {"enabled": False}}, ["/benchmark/perplexity/tokens"]),
        ({"perplexity": None, "fidelity": {"enabled": False}}, []),
    ],
)
def test_lengths_at_the_border(benchmark: dict[str, Any], named: list[str]) -> None:
    assert pointers(64, benchmark=benchmark) == named


@pytest.mark.parametrize(
    ("drop", "named"), [({"drop": ["1.mlp"]}, []), ({"units": 1}, ["/pruning/calibration/tokens"])]
)
def test_a_text_is_judged_where_something_is_searched_for(drop: dict[str, Any], named: list[str]) -> None:
    pruning = {"kind": "sub_block", **drop}  # with the usual 128 tokens
    assert pointers(64, pruning=pruning, scoring={"criterion": "perplexity"}) == named


@pytest.mark.parametrize(("positions", "expected"), [(13, "at most 11 tokens"), (1, "at most 0 tokens")])
def test_what_is_left_beside_the_output_is_told(positions: int, expected: str) -> None:
    spec = CompressionSpec.model_validate({**SHORT, "benchmark": {**WINDOWS, "samples": None}})
    found = {field.pointer: field for field in too_long(spec, positions)}
    assert found["/benchmark/latency/input_tokens"].expected == expected
    assert "beside the output" in found["/benchmark/latency/input_tokens"].detail
