"""Every gate on both sides of its limit and on it; which of several figures it reads; and what it does without one."""

from __future__ import annotations

from typing import Any

import pytest

from secateur.contract.gates import judge
from secateur.contract.jobs import Verdict
from secateur.contract.measurements import (
    Benchmarks,
    BitsPerByte,
    Fidelity,
    GenerationScore,
    Interval,
    LatencyCell,
    Measurement,
    Perplexity,
    SampleFigures,
    TaskScore,
)
from secateur.contract.options.gates import Gates
from secateur.contract.report import GateResult
from secateur.contract.results import Environment, TextInfo

MACHINE = Environment(device="cpu", device_name="", dtype="", threads=1, platform="", python="", versions={})
ONE = Interval(median=1, low=1, high=1)


def text(name: str) -> TextInfo:
    return TextInfo(description=name, source="local", identity=name, samples=40, tokens=128, sha256=name)


def cell(median: float, low: float, high: float, *, batch: int = 1) -> LatencyCell:
    return LatencyCell(
        batch_size=batch,
        input_tokens=12,
        output_tokens=128,
        runs=20,
        seconds=ONE,
        tokens_per_second=ONE,
        time_to_first_token=ONE,
        time_per_output_token=ONE,
        speedup=Interval(median=median, low=low, high=high),
    )


def perplexity(ratio: float | None, low: float | None, high: float | None, *, of: str = "a") -> Perplexity:
    return Perplexity(text=text(of), protocol="", value=20, ratio=ratio, ratio_low=low, ratio_high=high)


def bits(rise: float | None, low: float | None, high: float | None, *, of: str = "a") -> BitsPerByte:
    size: dict[str, Any] = {"protocol": "", "tokens": 1, "bytes": 4, "value": 1}
    return BitsPerByte(text=text(of), **size, rise=rise, rise_low=low, rise_high=high)


def fidelity(
    kl: float = 0.5,
    kl_low: float | None = 0.4,
    kl_high: float | None = 0.6,
    *,
    same: float = 0.7,
    same_low: float | None = 0.6,
    same_high: float | None = 0.8,
    of: str = "a",
) -> Fidelity:
    return Fidelity(
        text=text(of),
        kl=kl,
        kl_low=kl_low,
        kl_high=kl_high,
        top1_agreement=same,
        top1_agreement_low=same_low,
        top1_agreement_high=same_high,
    )


def task(drop: float | None, low: float | None, high: float | None, **more: Any) -> TaskScore:
    settled = {"task": "t", "metric": "acc", "value": 0.5, "items": 9, "few_shot": 0, "version": "1"}
    return TaskScore(**{**settled, "drop": drop, "drop_low": low, "drop_high": high, **more})


def checks(drop: float | None, low: float | None, high: float | None, *, headline: bool = True) -> GenerationScore:
    """Of all checks together, else of one of them."""
    name = "all" if headline else "copying"
    return GenerationScore(
        check=name, headline=headline, prompts=48, chat=False, exact=0.5, drop=drop, drop_low=low, drop_high=high
    )


def same_text(share: float | None, low: float | None, high: float | None) -> GenerationScore:
    given = {"agreement": share, "agreement_low": low, "agreement_high": high}
    return checks(0.1, 0.0, 0.2).model_copy(update=given)


def samples(value: float | None, low: float | None, high: float | None, *, of: str) -> SampleFigures:
    given = {"samples": 5, "chat": False, "tokens": 48, of: value, f"{of}_low": low, f"{of}_high": high}
    return SampleFigures.model_validate(given)


def judged(gates: dict[str, Any], **measured: Any) -> tuple[Verdict, list[GateResult]]:
    variants = [
        Measurement(variant="original", parameters=200, blocks=4, bytes_on_disk=800),
        Measurement(**{"variant": "pruned", "parameters": 100, "blocks": 3, "bytes_on_disk": 400, **measured}),
    ]
    benchmarks = Benchmarks(variants=variants, environment=MACHINE, seconds=0)
    return judge(Gates.model_validate(gates), benchmarks, variant="pruned")


def only(gates: dict[str, Any], **measured: Any) -> GateResult:
    verdict, (result,) = judged(gates, **measured)
    assert verdict is (Verdict.PASSED if result.passed else Verdict.FAILED)
    return result


MEASURED: dict[str, dict[str, Any]] = {  # each figure with an interval that is apart from it on both sides
    "min_speedup": {"latency": [cell(1.5, 1.25, 1.75)]},
    "max_perplexity_ratio": {"perplexity": [perplexity(1.5, 1.25, 1.75)]},
    "max_bits_per_byte_rise": {"bits_per_byte": [bits(0.25, 0.125, 0.5)]},
    "max_kl": {"fidelity": [fidelity(0.5, 0.4, 0.6)]},
    "min_top1_agreement": {"fidelity": [fidelity(same=0.7, same_low=0.6, same_high=0.8)]},
    "max_accuracy_drop": {"tasks": [task(0.125, 0.0625, 0.25)]},
    "max_exact_match_drop": {"generation": [checks(0.125, 0.0625, 0.25)]},
    "min_same_text": {"generation": [same_text(0.5, 0.25, 0.75)]},
    "max_repetition": {"sampled": samples(0.25, 0.125, 0.5, of="repetition")},
    "min_sample_length": {"sampled": samples(40, 30, 45, of="tokens")},
}


@pytest.mark.parametrize(
    ("gate", "how", "limit"),
    [
        ("min_speedup", "interval", 1.25),
        ("min_speedup", "median", 1.5),
        ("max_perplexity_ratio", "interval", 1.75),
        ("max_perplexity_ratio", "median", 1.5),
        ("max_bits_per_byte_rise", "interval", 0.5),
        ("max_bits_per_byte_rise", "median", 0.25),
        ("max_kl", "interval", 0.6),
        ("max_kl", "median", 0.5),
        ("min_top1_agreement", "interval", 0.6),
        ("min_top1_agreement", "median", 0.7),
        ("max_accuracy_drop", "interval", 0.25),
        ("max_accuracy_drop", "median", 0.125),
        ("max_exact_match_drop", "interval", 0.25),
        ("max_exact_match_drop", "median", 0.125),
        ("min_same_text", "interval", 0.25),
        ("min_same_text", "median", 0.5),
        ("max_repetition", "interval", 0.5),
        ("max_repetition", "median", 0.25),
        ("min_sample_length", "interval", 30),
        ("min_sample_length", "median", 40),
    ],
)
def test_a_gate_holds_up_to_its_limit_and_not_beyond(gate: str, how: str, limit: float) -> None:
    harder = 1e-6 if gate.startswith("min_") else -1e-6
    measured = MEASURED[gate]
    assert only({gate: limit, "judge": how}, **measured).passed  # the limit itself is allowed
    assert only({gate: limit - harder, "judge": how}, **measured).passed
    result = only({gate: limit + harder, "judge": how}, **measured)
    assert not result.passed
    assert result.judged == limit
    assert result.threshold == limit + harder
    assert result.low is not None
    assert result.high is not None
    assert result.value is not None
    assert result.low < result.value < result.high


@pytest.mark.parametrize(("gate", "size"), [("max_parameters", 100), ("max_bytes", 400)])
@pytest.mark.parametrize("how", ["interval", "median"])
def test_sizes_are_counted_and_judged_as_they_are(gate: str, size: int, how: str) -> None:
    assert only({gate: size, "judge": how}).passed
    assert only({gate: size + 1, "judge": how}).passed
    result = only({gate: size - 1, "judge": how})
    assert (result.passed, result.value, result.low, result.judged) == (False, size, None, size)


def test_the_interval_is_judged_unless_told_otherwise() -> None:
    noisy = {"latency": [cell(1.5, 0.86, 1.6)]}
    result = only({"min_speedup": 1}, **noisy)
    assert not result.passed
    assert (
        result.message
        == "speedup (batch 1, 12 + 128 tokens) is 1.50× (0.860 to 1.60): its low end, 0.860×, is below 1×"
    )
    assert only({"min_speedup": 1, "judge": "median"}, **noisy).passed


def test_of_several_cells_the_first_is_judged() -> None:
    cells = [cell(1.5, 1.4, 1.6, batch=1), cell(0.9, 0.8, 1.0, batch=8), cell(2.5, 2.4, 2.6, batch=16)]
    for order, low in ((cells, 1.4), (cells[1:], 0.8), (cells[2:], 2.4)):
        result = only({"min_speedup": 1.2}, latency=order)
        assert result.judged == low
        assert result.passed is (low >= 1.2)
        assert f"batch {order[0].batch_size}," in result.metric


@pytest.mark.parametrize("gate", ["max_perplexity_ratio", "max_kl", "min_top1_agreement"])
@pytest.mark.parametrize("how", ["interval", "median"])
def test_of_several_texts_the_worst_is_judged_wherever_it_stands(gate: str, how: str) -> None:
    good, bad = (0.9, 0.85, 0.95), (0.5, 0.45, 0.55)
    if gate.startswith("max_"):
        good, bad = bad, good

    def measured(numbers: tuple[float, float, float], name: str) -> dict[str, Any]:
        if gate == "max_perplexity_ratio":
            return {"perplexity": [perplexity(*numbers, of=name)]}
        if gate == "max_kl":
            return {"fidelity": [fidelity(*numbers, of=name)]}
        return {"fidelity": [fidelity(same=numbers[0], same_low=numbers[1], same_high=numbers[2], of=name)]}

    for order in ([(good, "good"), (bad, "bad")], [(bad, "bad"), (good, "good")]):
        together: dict[str, list[Any]] = {}
        for numbers, name in order:
            for part, figures in measured(numbers, name).items():
                together[part] = together.get(part, []) + figures
        result = only({gate: 0.7, "judge": how}, **together)
        assert not result.passed
        assert result.value == bad[0]
        assert result.metric.endswith(" on bad")
        assert only({gate: 0.7, "judge": how}, **measured(good, "good")).passed


def test_the_worst_text_is_the_one_whose_judged_side_is() -> None:
    sure, unsure = fidelity(0.5, 0.48, 0.52, of="sure"), fidelity(0.45, 0.2, 0.9, of="unsure")
    assert only({"max_kl": 0.6}, fidelity=[sure, unsure]).judged == 0.9
    assert only({"max_kl": 0.6, "judge": "median"}, fidelity=[sure, unsure]).judged == 0.5


def test_the_mean_of_the_tasks_is_judged_with_their_errors_in_quadrature() -> None:
    tasks = [task(0.02, 0.01, 0.05), task(0.06, 0.02, 0.10)]
    result = only({"max_accuracy_drop": 0.05}, tasks=tasks)
    assert result.value == pytest.approx(0.04)
    assert result.low == pytest.approx(0.04 - (0.01**2 + 0.04**2) ** 0.5 / 2)
    assert result.high == pytest.approx(0.04 + (0.03**2 + 0.04**2) ** 0.5 / 2)
    assert not result.passed
    assert only({"max_accuracy_drop": 0.05, "judge": "median"}, tasks=tasks).passed


def test_of_the_checks_of_generation_all_together_are_judged() -> None:
    for order in (1, -1):
        both = [checks(0.5, 0.4, 0.6, headline=False), checks(0.1, 0.0, 0.2)][::order]
        result = only({"max_exact_match_drop": 0.2}, generation=both)
        assert (result.passed, result.value) == (True, 0.1)
        assert result.metric == "exact-match drop (48 prompts)"


def test_a_task_counts_once_by_its_first_filter() -> None:
    tasks = [task(0.25, 0.2, 0.3, filter="strict"), task(0.0, 0.0, 0.0, filter="flexible", headline=False)]
    result = only({"max_accuracy_drop": 0.2}, tasks=tasks)
    assert (result.value, "mean of 1 task)" in result.metric) == (0.25, True)


NOT_MEASURED: dict[str, list[dict[str, Any]]] = {
    "min_speedup": [{}, {"latency": [cell(1.5, 1.4, 1.6).model_copy(update={"speedup": None})]}],
    "max_perplexity_ratio": [{}, {"perplexity": [perplexity(0.5, 0.4, 0.6), perplexity(None, None, None, of="b")]}],
    "max_bits_per_byte_rise": [{}, {"bits_per_byte": [bits(None, None, None)]}],
    "max_kl": [{}],
    "min_top1_agreement": [{}],
    "max_accuracy_drop": [{}, {"tasks": [task(None, None, None)]}, {"tasks": [task(0, 0, 0), task(None, None, None)]}],
    "max_exact_match_drop": [{}, {"generation": [checks(None, None, None)]}],
    "min_same_text": [{}, {"generation": [same_text(None, None, None)]}],
    "max_repetition": [{}, {"sampled": samples(None, None, None, of="repetition")}],
    "min_sample_length": [{}],
}


@pytest.mark.parametrize(("gate", "measured"), [(gate, case) for gate, cases in NOT_MEASURED.items() for case in cases])
@pytest.mark.parametrize("how", ["interval", "median"])
def test_what_was_not_measured_does_not_pass(gate: str, measured: dict[str, Any], how: str) -> None:
    limit = 0.5 if gate.startswith("max_") else 0.01  # which every figure would keep
    result = only({gate: limit, "judge": how}, **measured)
    assert (result.passed, result.value, result.judged) == (False, None, None)
    assert "did not measure" in result.message


@pytest.mark.parametrize(
    ("gate", "measured"),
    [
        ("max_perplexity_ratio", {"perplexity": [perplexity(0.2, 0.1, 0.3), perplexity(0.1, None, None, of="b")]}),
        ("max_bits_per_byte_rise", {"bits_per_byte": [bits(0.1, None, None)]}),
        ("max_kl", {"fidelity": [fidelity(0.1, 0.0, 0.2), fidelity(0.1, None, None, of="b")]}),
        ("min_top1_agreement", {"fidelity": [fidelity(same_low=None, same_high=None)]}),
        ("max_accuracy_drop", {"tasks": [task(0.0, -0.1, 0.1), task(0.0, None, None)]}),
        ("max_repetition", {"sampled": samples(0.1, None, None, of="repetition")}),
        ("min_sample_length", {"sampled": samples(3, None, None, of="tokens")}),
    ],
)
def test_an_interval_that_there_is_not_passes_nothing(gate: str, measured: dict[str, Any]) -> None:
    limit = 0.5
    result = only({gate: limit}, **measured)
    assert (result.passed, result.judged) == (False, None)
    assert '"judge": "median"' in result.message
    assert only({gate: limit, "judge": "median"}, **measured).passed


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
@pytest.mark.parametrize("how", ["interval", "median"])
def test_what_is_no_number_passes_nothing(broken: float, how: str) -> None:
    sound = fidelity(0.1, 0.1, 0.1)
    for order in ([sound, fidelity(broken, broken, broken)], [fidelity(broken, broken, broken), sound]):
        assert not only({"max_kl": 0.5, "judge": how}, fidelity=order).passed


def test_the_verdict_needs_every_gate() -> None:
    measured = {**MEASURED["min_speedup"], **MEASURED["max_kl"], **MEASURED["max_perplexity_ratio"]}
    measured |= MEASURED["max_accuracy_drop"]
    kept = {
        "min_speedup": 1.1,
        "max_perplexity_ratio": 2.0,
        "max_kl": 1.0,
        "min_top1_agreement": 0.1,
        "max_accuracy_drop": 0.5,
        "max_parameters": 100,
        "max_bytes": 400,
    }
    verdict, results = judged(kept, **measured)
    assert verdict is Verdict.PASSED
    assert [result.gate for result in results] == list(kept)
    too_hard = {"min_speedup": 9, "min_top1_agreement": 1, "max_parameters": 1, "max_bytes": 1}
    for gate in kept:
        broken = too_hard.get(gate, 1e-3)
        verdict, results = judged({**kept, gate: broken}, **measured)
        assert verdict is Verdict.FAILED
        assert [result.gate for result in results if not result.passed] == [gate]


def test_without_gates_there_is_no_verdict() -> None:
    assert judged({}) == (Verdict.NONE, [])
    assert judged({"judge": "median"}) == (Verdict.NONE, [])


def test_the_named_variant_is_judged_and_no_other() -> None:
    variants = [
        Measurement(variant="original", parameters=200, blocks=4, bytes_on_disk=800),
        Measurement(variant="pruned", parameters=100, blocks=3, bytes_on_disk=400),
        Measurement(variant="recovered", parameters=120, blocks=3, bytes_on_disk=480),
    ]
    for order in (variants, variants[::-1]):
        benchmarks = Benchmarks(variants=order, environment=MACHINE, seconds=0)
        for name, size in (("original", 200), ("pruned", 100), ("recovered", 120)):
            _, (result,) = judge(Gates(max_parameters=110), benchmarks, variant=name)
            assert result.value == size


@pytest.mark.parametrize(
    ("gates", "measured", "message"),
    [
        (
            {"max_kl": 0.7},
            MEASURED["max_kl"],
            "KL divergence on a is 0.500 (0.400 to 0.600): its high end, 0.600, is at most 0.7",
        ),
        (
            {"max_kl": 0.55},
            MEASURED["max_kl"],
            "KL divergence on a is 0.500 (0.400 to 0.600): its high end, 0.600, is above 0.55",
        ),
        (
            {"min_speedup": 1.2},
            MEASURED["min_speedup"],
            "speedup (batch 1, 12 + 128 tokens) is 1.50× (1.25 to 1.75): its low end, 1.25×, is at least 1.2×",
        ),
        (
            {"min_speedup": 1.6, "judge": "median"},
            MEASURED["min_speedup"],
            "speedup (batch 1, 12 + 128 tokens) is 1.50× (1.25 to 1.75), below 1.6×",
        ),
        (
            {"min_speedup": 1.05, "judge": "median"},
            {"latency": [cell(1.1, 0.97, 1.2)]},
            "speedup (batch 1, 12 + 128 tokens) is 1.10× (0.970 to 1.20), at least 1.05×; "
            "no speedup was shown, since the interval holds 1×",
        ),
        (
            {"min_speedup": 0.9},
            {"latency": [cell(1.1, 0.97, 1.2)]},
            "speedup (batch 1, 12 + 128 tokens) is 1.10× (0.970 to 1.20): its low end, 0.970×, is at least 0.9×; "
            "no speedup was shown, since the interval holds 1×",
        ),
        (
            {"min_top1_agreement": 0.9, "judge": "median"},
            {"fidelity": [fidelity(same=1, same_low=0.9, same_high=1)]},
            "top-1 agreement on a is 100 % (90.0 to 100 %), at least 90 %",
        ),
        ({"max_parameters": 100}, {}, "number of parameters is 100, at most 100"),
        ({"max_parameters": 99}, {}, "number of parameters is 100, above 99"),
        (
            {"max_kl": 0.7},
            {"fidelity": [fidelity(0.5, None, None)]},
            "KL divergence on a is 0.500, and too little was measured for an interval; measure more, or judge the "
            'figure itself with "judge": "median"',
        ),
        ({"max_kl": 0.7}, {}, "max_kl: the job did not measure what this gate needs"),
    ],
)
def test_the_message_says_what_was_held_to_what(gates: dict[str, Any], measured: dict[str, Any], message: str) -> None:
    assert only(gates, **measured).message == message
