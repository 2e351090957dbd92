"""A gate that nothing can be held to is told before anything is measured, and no other gate is."""

from __future__ import annotations

from typing import Any

import pytest
from scipy.stats import binomtest  # type: ignore[import-untyped]  # ships no annotations

from secateur.contract.gate_needs import never_passed
from secateur.contract.options.gates import GATES
from secateur.contract.spec import CompressionSpec, LocalModel

LEAVES_OUT: dict[str, dict[str, Any]] = {
    "latency": {"latency": None},
    "perplexity": {"perplexity": None},
    "fidelity": {"fidelity": {"enabled": False}},
    "tasks": {"tasks": None},
    "samples": {"samples": None},
    "generation": {"generation": None},
    "draft": {"draft": None},
}
NEEDS = {
    "min_speedup": "latency",
    "min_llama_cpp_speedup": "latency",
    "min_vllm_speedup": "latency",
    "max_perplexity_ratio": "perplexity",
    "max_bits_per_byte_rise": "perplexity",
    "max_kl": "fidelity",
    "min_top1_agreement": "fidelity",
    "max_accuracy_drop": "tasks",
    "max_exact_match_drop": "generation",
    "min_same_text": "generation",
    "max_repetition": "samples",
    "min_sample_length": "samples",
    "min_draft_speedup": "draft",
    "min_draft_acceptance": "draft",
    "min_draft_equal": "draft",
    "max_parameters": None,
    "max_bytes": None,
}
DRAFT: dict[str, Any] = {  # which may be judged by every gate that there is, but for those of other tokens
    "use": "draft",
    "target_model": {"source": "hub", "id": "some/larger"},
}
VOCABULARY = {"kind": "vocabulary", "tokens": 24000, "text": {"source": "named", "name": "wikitext2"}}
LIMITS = {"min_same_text": 0.5}  # of 48 answers
EVERYTHING = {"tasks": {"tasks": ["piqa"]}}


def spec(gates: dict[str, Any], benchmark: dict[str, Any], *, pruning: dict[str, Any] | None = None) -> CompressionSpec:
    changed = pruning == VOCABULARY or (pruning is None and "max_bits_per_byte_rise" in gates)
    pruned = pruning or (VOCABULARY if changed else {"kind": "depth", "blocks": 1})
    return CompressionSpec.model_validate(
        {
            "model": {"source": "hub", "id": "some/model"},
            **({} if changed else DRAFT),
            "pruning": pruned,
            "quantise": [{"kind": "gguf"}],
            "benchmark": {**EVERYTHING, **benchmark},
            "gates": gates,
        }
    )


@pytest.mark.parametrize("left_out", LEAVES_OUT)
@pytest.mark.parametrize("gate", GATES)
def test_a_gate_needs_its_own_part_of_the_benchmark_and_no_other(gate: str, left_out: str) -> None:
    limit = LIMITS.get(gate, 1)
    found = never_passed(spec({gate: limit}, LEAVES_OUT[left_out]))
    if NEEDS[gate] != left_out:
        assert found == []
        return
    (error,) = found
    assert error.pointer == f"/gates/{gate}"
    assert error.value == limit
    assert error.detail == f"`{gate}` judges what the job does not measure: /benchmark/{left_out} leaves it out"
    assert error.expected == f"no such gate, or a benchmark with `{left_out}`"


@pytest.mark.parametrize("gate", ["max_perplexity_ratio", "max_kl", "min_top1_agreement"])
def test_figures_of_tokens_are_not_there_in_another_vocabulary(gate: str) -> None:
    (error,) = never_passed(spec({gate: 1}, {}, pruning=VOCABULARY))
    assert (error.pointer, error.value) == (f"/gates/{gate}", 1)
    assert "token by token" in error.detail
    assert error.expected == "no such gate; `max_bits_per_byte_rise` stands in its place"
    assert never_passed(spec({gate: 1}, {})) == []


def test_figures_of_bytes_are_for_other_vocabularies() -> None:
    (error,) = never_passed(spec({"max_bits_per_byte_rise": 0.1}, {}, pruning={"kind": "depth", "blocks": 1}))
    assert error.pointer == "/gates/max_bits_per_byte_rise"
    assert error.expected == "no such gate, or pruning of the kind `vocabulary`"
    assert never_passed(spec({"max_bits_per_byte_rise": 0.1, "min_speedup": 1, "max_bytes": 9}, {})) == []


def test_every_such_gate_is_told() -> None:
    found = never_passed(spec({"min_speedup": 1, "max_accuracy_drop": 0.1}, {"latency": None, "tasks": None}))
    assert [error.pointer for error in found] == ["/gates/min_speedup", "/gates/max_accuracy_drop"]


ONE_WINDOW = 'at least 2 in /benchmark/perplexity/windows, or "judge": "median"'
ONE_SAMPLE = 'at least 2 in /benchmark/samples/prompts, or "judge": "median"'
ONE_ANSWER = 'at least 2 in /benchmark/generation/prompts, or "judge": "median"'
ONE_ITEM = 'at least 2 in /benchmark/tasks/limit, or "judge": "median"'
ONE_WINDOW_EACH = {"perplexity": {"windows": 1}}
ONE_PROMPT = {"samples": {"prompts": ["Once"]}}
ONE_CHECK = {"generation": {"prompts": 1, "checks": ["format", "format"]}}
ONE_OF_PIQA = {"tasks": {"tasks": ["piqa"], "limit": 1}}


@pytest.mark.parametrize(
    ("gates", "benchmark", "expected"),
    [
        ({"max_kl": 1}, ONE_WINDOW_EACH, ONE_WINDOW),
        ({"max_perplexity_ratio": 1}, ONE_WINDOW_EACH, ONE_WINDOW),
        ({"max_bits_per_byte_rise": 1}, ONE_WINDOW_EACH, ONE_WINDOW),
        ({"min_top1_agreement": 1}, ONE_WINDOW_EACH, ONE_WINDOW),
        ({"max_repetition": 1}, ONE_PROMPT, ONE_SAMPLE),
        ({"min_sample_length": 1}, ONE_PROMPT, ONE_SAMPLE),
        ({"max_exact_match_drop": 0.9}, ONE_CHECK, ONE_ANSWER),
        ({"max_accuracy_drop": 0.9}, ONE_OF_PIQA, ONE_ITEM),
        (
            {"min_same_text": 0.5},
            ONE_CHECK,
            'at most 0.025, at least 6 in /benchmark/generation/prompts, or "judge": "median"',
        ),
    ],
)
def test_an_interval_needs_more_than_one(gates: dict[str, Any], benchmark: dict[str, Any], expected: str) -> None:
    (error,) = never_passed(spec(gates, benchmark))
    assert (error.pointer, error.value) == (f"/gates/{next(iter(gates))}", next(iter(gates.values())))
    assert error.expected == expected
    assert never_passed(spec({**gates, "judge": "median"}, benchmark)) == []


@pytest.mark.parametrize(
    ("gates", "benchmark"),
    [
        ({"max_kl": 1}, {"perplexity": {"windows": 2}}),
        ({"max_kl": 1}, {"perplexity": None}),  # on the default's windows
        ({"min_speedup": 1, "max_bytes": 1, "max_accuracy_drop": 1}, ONE_WINDOW_EACH),
        ({"max_repetition": 1, "min_sample_length": 1}, {"samples": {"prompts": ["Once", "Twice"]}}),
        ({"max_exact_match_drop": 0.95}, ONE_CHECK),  # which an answer that only the variant has right keeps
        ({"max_exact_match_drop": 0}, {"generation": {"prompts": 1}}),  # of each check
        ({"max_accuracy_drop": 0.1}, {"tasks": {"tasks": ["piqa"], "limit": 2}}),
        ({"max_accuracy_drop": 0.1}, {"tasks": {"tasks": ["mmlu"], "limit": 1}}),  # a group, of many tasks
        ({"max_accuracy_drop": 0.1}, {"tasks": {"tasks": ["piqa", "boolq"], "limit": 1}}),
    ],
)
def test_what_may_be_passed_is_taken(gates: dict[str, Any], benchmark: dict[str, Any]) -> None:
    assert never_passed(spec(gates, benchmark)) == []


@pytest.mark.parametrize("judge", ["interval", "median"])
@pytest.mark.parametrize(
    ("gates", "samples", "expected"),
    [
        ({"max_repetition": 1}, {"prompts": []}, "no such gate, or at least {least} in /benchmark/samples/prompts"),
        (
            {"max_repetition": 1},
            {"max_new_tokens": 3},
            "no such gate, or at least 4 in /benchmark/samples/max_new_tokens",
        ),
        ({"min_sample_length": 49}, {}, "at most 48, or more in /benchmark/samples/max_new_tokens"),
        ({"min_sample_length": 4}, {"max_new_tokens": 3}, "at most 3, or more in /benchmark/samples/max_new_tokens"),
    ],
)
def test_a_figure_that_samples_never_have_is_told_by_either_judge(
    judge: str, gates: dict[str, Any], samples: dict[str, Any], expected: str
) -> None:
    (error,) = never_passed(spec({**gates, "judge": judge}, {"samples": samples}))
    assert error.pointer == f"/gates/{next(iter(gates))}"
    assert error.expected == expected.format(least=2 if judge == "interval" else 1)


@pytest.mark.parametrize(("prompts", "checks"), [(1, 1), (4, 3), (16, 3), (1000, 3)])
def test_a_share_of_the_same_answers_is_held_to_the_lowest_that_its_interval_reaches(prompts: int, checks: int) -> None:
    """Held against scipy's interval of all answers of so many."""
    generation = {"prompts": prompts, "checks": ["arithmetic", "copying", "format"][:checks]}
    highest = binomtest(prompts * checks, prompts * checks).proportion_ci(0.95, method="exact").low
    for limit, passes in [(highest - 1e-9, True), (highest + 1e-9, False), (1, False)]:
        found = never_passed(spec({"min_same_text": limit}, {"generation": generation}))
        assert (found == []) is passes


def test_prompts_that_are_named_as_enough_are() -> None:
    (error,) = never_passed(spec({"min_same_text": 0.95}, {}))
    assert error.expected == 'at most 0.926, at least 24 in /benchmark/generation/prompts, or "judge": "median"'
    assert never_passed(spec({"min_same_text": 0.95}, {"generation": {"prompts": 24}})) == []
    assert never_passed(spec({"min_same_text": 0.95}, {"generation": {"prompts": 23}})) != []
    (error,) = never_passed(spec({"min_same_text": 1}, {}))
    assert error.expected == 'at most 0.926, or "judge": "median"'


@pytest.mark.parametrize(
    ("gate", "engine"),
    [("min_speedup", "transformers"), ("min_llama_cpp_speedup", "llama_cpp"), ("min_vllm_speedup", "vllm")],
)
def test_a_speedup_is_of_an_engine_that_times_it(gate: str, engine: str) -> None:
    engines = ["transformers", "llama_cpp", "vllm"]
    assert never_passed(spec({gate: 1}, {"latency": {"engines": [engine]}})) == []
    others = [other for other in engines if other != engine]
    (error,) = never_passed(spec({gate: 1}, {"latency": {"engines": others}}))
    assert error.pointer == f"/gates/{gate}"
    assert f"/benchmark/latency/engines leaves out `{engine}`" in error.detail


def test_llama_cpp_s_speedup_needs_a_file() -> None:
    gated = spec({"min_llama_cpp_speedup": 1}, {})
    (error,) = never_passed(gated.model_copy(update={"quantise": ()}))
    assert error.pointer == "/gates/min_llama_cpp_speedup"
    assert "GGUF files, of which the job makes none" in error.detail
    local = LocalModel(source="local", path="model.gguf")
    assert never_passed(gated.model_copy(update={"quantise": (), "model": local})) == []
