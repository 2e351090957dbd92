"""Every row of the table of metrics can be read, written and judged; every gate has its row."""

from __future__ import annotations

from typing import Any

import pytest

from secateur.contract.measurements import BitsPerByte
from secateur.contract.metric_row import Metric, uncapitalised
from secateur.contract.metrics import METRICS
from secateur.contract.options.gates import GATES, Gates, is_least
from secateur.contract.readings import Variant, VariantFile
from tests.fixtures.reports import benchmarks, draft_figures, engine_cell, interval


def final() -> Variant:
    """A variant of which everything is known."""
    measured = benchmarks().variants[-1]
    assert measured.memory is not None
    memory = measured.memory.model_copy(update={"largest_batch": 12})
    text = measured.perplexity[0].text
    bits = BitsPerByte(
        text=text, protocol="", tokens=25, bytes=100, value=1.1, low=1, high=1.2, rise=0.1, rise_low=0, rise_high=0.2
    )
    more: dict[str, Any] = {
        "memory": memory,
        "bits_per_byte": [bits],
        "llama_cpp": [engine_cell(90.0, speedup=interval(1.3), build="llama-bench, build 5163 (8cf427ff)")],
        "vllm": [engine_cell(300.0, speedup=interval(1.2), build="vLLM 0.99.0")],
        "draft": draft_figures(),
    }
    return Variant(measured.model_copy(update=more), VariantFile(80_100_000))


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_a_row_is_read_written_and_judged(metric: Metric) -> None:
    readings = metric.read(final())
    assert readings
    assert len({reading.subject.key for reading in readings}) == len(readings)
    for reading in readings:
        assert metric.format.write(reading.value)
    judged = metric.judged(final())
    assert len(judged) == {"first": 1, "mean": 1, "worst": len(readings)}[metric.several]
    assert metric.worst(judged).metric.startswith(metric.judged_as or uncapitalised(metric.title))
    if metric.exact:
        assert all(one.low is None for one in judged)


def test_every_gate_has_a_row_and_looks_at_its_worse_side() -> None:
    assert [name for name in Gates.model_fields if name != "judge"] == list(GATES)
    for name, metric in GATES.items():
        assert metric is METRICS[metric.name]
        assert is_least(name) == (metric.better == "higher" and metric.judges == "value")


def test_of_what_was_not_measured_there_is_nothing() -> None:
    bare = final().measured.model_copy(
        update={
            "latency": [],
            "llama_cpp": [],
            "vllm": [],
            "memory": None,
            "perplexity": [],
            "fidelity": [],
            "bits_per_byte": [],
            "sampled": None,
            "generation": [],
            "tasks": [],
            "draft": None,
        }
    )
    known = {name for name, metric in METRICS.items() if metric.judged(Variant(bare))}
    assert known == {"parameters", "blocks", "weights_on_disk"}


def having(what: str) -> set[str]:
    return {name for name, metric in METRICS.items() if getattr(metric, what)}


def test_what_readers_see_first() -> None:
    seen_first = {"parameters", "file_size", "weights_on_disk", "speedup", "kl", "perplexity", "accuracy"}
    seen_first |= {"exact_match", "same_text", "llama_cpp_speedup", "vllm_speedup", "draft_speedup", "draft_acceptance"}
    seen_first |= {"bits_per_byte"}
    assert having("headline") == seen_first
    speeds = {"tokens_per_second", "bytes_per_second", "llama_cpp_tokens_per_second", "vllm_tokens_per_second"}
    short = {"peak_memory", "top1_agreement", "tokens_per_byte", "repetition"}
    drafts = {"draft_cost", "assisted_tokens_per_second", "draft_equal"}
    assert having("short") == seen_first | speeds | drafts | short


def test_what_is_counted_has_no_interval_to_judge() -> None:
    memory = {"weights_in_memory", "peak_memory", "cache_per_token", "largest_batch"}
    assert having("exact") == {
        "parameters",
        "blocks",
        "file_size",
        "weights_on_disk",
        "tokens_per_byte",
        "draft_equal",
        *memory,
    }


def test_what_the_original_has_by_definition() -> None:
    known = {name: metric.at_original for name, metric in METRICS.items() if metric.at_original is not None}
    speedups = {"speedup": 1, "llama_cpp_speedup": 1, "vllm_speedup": 1}
    assert known == {**speedups, "kl": 0, "top1_agreement": 1, "same_text": 1}


@pytest.mark.parametrize(
    ("name", "value"),
    [("parameters", 113_275_008), ("blocks", 24), ("weights_on_disk", 453_130_000), ("file_size", 80_100_000)],
)
def test_sizes_are_read_off_the_variant_itself(name: str, value: int) -> None:
    (reading,) = METRICS[name].read(final())
    assert reading.value == value


def test_what_says_how_good_a_model_is() -> None:
    known = {name for name, metric in METRICS.items() if metric.section.quality}
    text = {"kl", "top1_agreement", "perplexity", "bits_per_byte", "tokens_per_byte", "accuracy"}
    assert known == text | {"exact_match", "same_text", "repetition", "sample_length"}


def test_what_is_of_tokens_and_what_stands_in_its_place() -> None:
    assert having("of_tokens") == {"kl", "top1_agreement", "perplexity"}
    assert having("in_any_tokens") == {"bits_per_byte", "tokens_per_byte", "bytes_per_second"}


def test_speed_in_bytes_is_that_in_tokens_by_what_a_token_spells() -> None:
    (speed, *_), (tokens, *_) = METRICS["bytes_per_second"].read(final()), METRICS["tokens_per_second"].read(final())
    assert (speed.value, speed.low, speed.high) == tuple(4 * (x or 0) for x in (tokens.value, tokens.low, tokens.high))
    assert speed.subject == tokens.subject


def test_what_pruning_is_for() -> None:
    assert having("sought") == {"speedup", "llama_cpp_speedup", "vllm_speedup"}
    speedup, kl = METRICS["speedup"], METRICS["kl"]
    ends = [(0.9, 1.1), (1.0, 1.1), (0.9, 1.0), (1.01, 1.1), (0.8, 0.99), (None, None)]
    assert [speedup.unshown(*both) for both in ends] == [True, True, True, False, False, False]
    assert not kl.unshown(0.0, 0.1)
