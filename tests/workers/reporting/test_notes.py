"""A note is written where the figures call for it, and only there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from secateur.contract.measurements import RECOVERED_FILE, Interval, Measurement
from secateur.contract.report import Report
from secateur.contract.results import TextInfo
from secateur.contract.spec import CompressionSpec
from tests.fixtures.reports import chosen
from workers.stages.benchmark_notes import notes_on_texts

MakeReport = Callable[..., Report]

OTHER = TextInfo(description="poems", source="local", identity="poems.txt", samples=480, tokens=128, sha256="9f" * 32)


def change_final(report: Report, **changes: Any) -> Any:
    """The benchmarks with the last variant changed."""
    variants = [*report.benchmarks.variants[:-1], report.benchmarks.variants[-1].model_copy(update=changes)]
    return report.benchmarks.model_copy(update={"variants": variants})


def has(report: Report, words: str) -> bool:
    return any(words in note for note in report.notes)


def trained_on(make_report: MakeReport, report: Report, text: TextInfo, **changes: Any) -> Report:
    assert report.recovered is not None
    return make_report(recovered=report.recovered.model_copy(update={"text": text}), **changes)


def test_training_on_the_measured_tokens_voids_them(make_report: MakeReport, report: Report) -> None:
    measured = report.benchmarks.variants[0].perplexity[0].text
    assert has(trained_on(make_report, report, measured), "the very tokens")


def test_perplexity_below_the_originals(make_report: MakeReport, report: Report) -> None:
    final = report.benchmarks.variants[-1]
    lower = [p.model_copy(update={"value": p.value / 10}) for p in final.perplexity]
    assert has(make_report(benchmarks=change_final(report, perplexity=lower)), "is below the original's")
    assert not has(report, "is below the original's")


def test_recovery_that_moves_away_from_the_original(make_report: MakeReport, report: Report) -> None:
    final = report.benchmarks.variants[-1]
    further = [f.model_copy(update={"kl": 9.0}) for f in final.fidelity]
    assert has(make_report(benchmarks=change_final(report, fidelity=further)), "forgotten the original")
    worse = [p.model_copy(update={"value": 900.0}) for p in final.perplexity]
    changed = change_final(report, fidelity=further, perplexity=worse)
    assert has(make_report(benchmarks=changed), "recovery did not help")


def with_file(report: Report, *kls: float) -> Any:
    """The benchmarks with the recovered model as a file, of so much divergence on the texts."""
    final = report.benchmarks.variants[-1]
    fidelity = [found.model_copy(update={"kl": kl}) for found, kl in zip(final.fidelity, kls, strict=True)]
    file = final.model_copy(update={"variant": RECOVERED_FILE, "fidelity": fidelity})
    return report.benchmarks.model_copy(update={"variants": [*report.benchmarks.variants, file]})


def test_what_rounding_the_file_takes_back_is_told(make_report: MakeReport, report: Report) -> None:
    """Pruned 1.31 and 1.48 from the original, recovered 0.44 and 0.83."""
    changed = make_report(benchmarks=with_file(report, 0.44 + 0.4 * (1.31 - 0.44), 0.8))
    assert has(changed, "from 0.440 to 0.788 nats, which takes back 40.0 % of what recovery gained")
    assert sum("rounding the recovered model" in note for note in changed.notes) == 1  # on the other it loses nothing
    assert has(changed, "The gates judge the recovered checkpoint; `recovered-gguf`")
    ungated = make_report(benchmarks=with_file(report, 0.5, 0.9), gates={})
    assert has(ungated, "rounding the recovered model")
    assert not has(ungated, "The gates judge")
    assert not has(report, "recovered-gguf")


def test_rounding_after_a_recovery_that_did_not_help_takes_nothing_back(
    make_report: MakeReport, report: Report
) -> None:
    final = report.benchmarks.variants[-1]
    further = [found.model_copy(update={"kl": 9.0}) for found in final.fidelity]
    worse = make_report(benchmarks=change_final(report, fidelity=further))
    changed = make_report(benchmarks=with_file(worse, 9.5, 9.5))
    assert has(changed, "from 9.00 to 9.50 nats.")
    assert not has(changed, "takes back")


def test_an_original_that_gets_nothing_right(make_report: MakeReport, report: Report) -> None:
    first, *others = report.benchmarks.variants
    nothing = [score.model_copy(update={"exact": 0.0}) for score in first.generation]
    variants = [first.model_copy(update={"generation": nothing}), *others]
    changed = report.benchmarks.model_copy(update={"variants": variants})
    assert has(
        make_report(benchmarks=changed), "The original gets none of the 48 prompts of the generation checks right"
    )
    assert not has(report, "generation checks")


def timed(final: Measurement, speedup: Interval, noise: float | None) -> list[Any]:
    return [cell.model_copy(update={"speedup": speedup, "noise": noise}) for cell in final.latency]


def test_speed_within_the_noise(make_report: MakeReport, report: Report) -> None:
    final = report.benchmarks.variants[-1]
    cells = timed(final, Interval(median=1.01, low=0.97, high=1.05), 0.01)
    assert has(make_report(benchmarks=change_final(report, latency=cells)), "no difference in speed was shown")
    cells = timed(final, Interval(median=1.04, low=1.02, high=1.06), 0.08)
    assert has(make_report(benchmarks=change_final(report, latency=cells)), "within the noise of the machine")
    assert not has(report, "noise")


def test_a_gate_whose_limit_lies_in_the_interval(make_report: MakeReport) -> None:
    by_median = {"min_speedup": 1.23, "judge": "median"}
    assert has(make_report(gates=by_median), "`min_speedup` was a near thing")
    assert has(make_report(gates={"min_speedup": 1.23}), "that the limit is kept was not shown")
    for limit in (1.1, 1.5):
        assert not has(make_report(gates={"min_speedup": limit}), "its limit")


def test_self_generated_text_and_little_text(make_report: MakeReport, report: Report) -> None:
    text = OTHER.model_copy(update={"source": "self", "samples": 4})
    final = report.benchmarks.variants[-1]
    perplexity = [final.perplexity[0].model_copy(update={"text": text})]
    changed = make_report(benchmarks=change_final(report, perplexity=perplexity, fidelity=[]))
    assert has(changed, "text that the original wrote itself")
    assert has(changed, "small sample (512 tokens)")
    assert not has(report, "small sample")


def test_what_the_protection_kept(make_report: MakeReport, report: Report) -> None:
    assert report.scores is not None
    order = [0, *[b for b in report.scores.order if b != 0]]
    assert has(make_report(scores=report.scores.model_copy(update={"order": order})), "(0)")


def test_notes_of_stages_come_along_once(make_report: MakeReport, report: Report) -> None:
    pruned = report.pruned.model_copy(update={"notes": ["a note", "a note"], "needs_loader": True, "dropped": []})
    assert report.recovered is not None
    recovered = report.recovered.model_copy(update={"notes": ["a note"], "resumed_from": [20, 40]})
    changed = make_report(pruned=pruned, recovered=recovered)
    assert changed.notes.count("a note") == 1
    assert has(changed, "modeling_secateur.py")
    assert has(changed, "at step 20 and 40")
    assert has(changed, "Width pruning leaves the number of blocks")


def test_a_decilm_is_loaded_with_its_own_code(make_report: MakeReport, report: Report) -> None:
    changed = make_report(pruned=report.pruned.model_copy(update={"needs_loader": True, "decilm": True}))
    assert has(changed, "trust_remote_code=True")
    assert not has(changed, "Plain transformers")


def test_of_perplexity_that_was_not_measured_nothing_is_said(make_report: MakeReport, report: Report) -> None:
    own = report.benchmarks.variants[-1].fidelity[0].text.model_copy(update={"source": "self"})
    variants = [
        variant.model_copy(
            update={"perplexity": [], "fidelity": [f.model_copy(update={"text": own}) for f in variant.fidelity[:1]]}
        )
        for variant in report.benchmarks.variants
    ]
    changed = make_report(benchmarks=report.benchmarks.model_copy(update={"variants": variants}))
    assert not has(changed, "Perplexity was measured")


def test_nothing_was_seen_of_text_that_is_not_measured_on() -> None:
    text = {"source": "local", "path": "news.txt"}
    trained = TextInfo(description="news.txt", source="local", identity="news.txt", samples=1, tokens=8, sha256="0")
    spec: dict[str, Any] = {
        "model": {"source": "local", "path": "m"},
        "pruning": {"kind": "depth", "blocks": 1},
        "recovery": {"kind": "lora", "text": text},
        "benchmark": {"perplexity": {"texts": [text]}},
    }
    assert "overlap in news.txt" in notes_on_texts(CompressionSpec.model_validate(spec), trained)[0]
    spec["benchmark"] = {"perplexity": None, "fidelity": {"enabled": False}}
    assert notes_on_texts(CompressionSpec.model_validate(spec), trained) == []


def test_figures_of_another_job_are_said_to_be(make_report: MakeReport, report: Report) -> None:
    measured = {"job_id": UUID(int=7), "measured_at": datetime(2026, 11, 24, 18, 30, tzinfo=UTC)}
    taken_over = make_report(benchmarks=report.benchmarks.model_copy(update=measured))
    assert has(taken_over, f"taken over from job {UUID(int=7)}")
    assert has(taken_over, "on 2026-11-24 18:30 UTC")
    own = make_report(benchmarks=report.benchmarks.model_copy(update={**measured, "job_id": report.job_id}))
    assert not has(own, "taken over")
    assert not has(report, "taken over")


def test_a_choice_that_leaves_the_criterions_own_set_is_told(make_report: MakeReport) -> None:
    words = (
        "The criterion alone would have removed blocks 10, 17, 20, 21, 24, 25. The choice after healing removed 13–18: "
        "KL from the original on 1,536 held-out tokens is 0.251 in place of 0.590 after healing and 40 steps."
    )
    assert has(make_report(chosen=chosen()), words)
    unfinished = [candidate.model_copy(update={"kl_distilled": None}) for candidate in chosen().candidates]
    assert has(make_report(chosen=chosen(candidates=unfinished, steps=None)), "is 0.282 in place of 0.610 once healed.")
    assert not has(make_report(chosen=chosen(dropped=chosen().own.blocks)), "The criterion alone")
    assert not has(make_report(), "The criterion alone")
