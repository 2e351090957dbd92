"""Each reader of the table of metrics, on figures that are there, are there several times, and are not."""

from __future__ import annotations

from typing import Any

import pytest

from secateur.contract import readings as r
from secateur.contract.intervals import Estimate
from secateur.contract.measurements import (
    RECOVERED_FILE,
    Fidelity,
    Interval,
    LatencyCell,
    Measurement,
    Memory,
    Perplexity,
    TaskScore,
)
from secateur.contract.readings import Reading, Subject, Variant, VariantFile, variants_of
from secateur.contract.results import PrunedFile, Quantised, QuantisedVariant, SourceFile, TextInfo
from tests.fixtures.reports import make_one, pruned, recovered

TEXT = TextInfo(description="news.txt", source="local", identity="news", samples=1040, tokens=1128, sha256="5a")
ONE = Interval(median=2, low=1, high=4)


def variant(*, file: VariantFile | None = None, unpacked: bool = False, **measured: Any) -> Variant:
    settled = {"variant": "pruned", "parameters": 10, "blocks": 3, "bytes_on_disk": 40}
    return Variant(Measurement(**{**settled, **measured}), file, unpacked)


def cell(**changes: Any) -> LatencyCell:
    settled: dict[str, Any] = {"batch_size": 4, "input_tokens": 12, "output_tokens": 128, "runs": 20}
    settled |= dict.fromkeys(("seconds", "tokens_per_second", "time_to_first_token", "time_per_output_token"), ONE)
    return LatencyCell(**{**settled, **changes})


def task(**changes: Any) -> TaskScore:
    settled = {"task": "piqa", "metric": "acc", "value": 0.5, "items": 1838, "few_shot": 0, "version": "1.0"}
    return TaskScore(**{**settled, **changes})


def test_counts_and_sizes_of_the_whole_model() -> None:
    assert r.counted(lambda measured: measured.blocks)(variant()) == [Reading(3)]
    assert r.weights_on_disk(variant()) == [Reading(40)]
    assert r.weights_on_disk(variant(unpacked=True)) == [
        Reading(40, subject=Subject(how="unpacked", phrase=" (unpacked)"))
    ]
    assert r.file_size(variant()) == []
    assert r.file_size(variant(file=VariantFile(7, "came in Q4_1"))) == [
        Reading(7, subject=Subject(how="came in Q4_1"))
    ]
    assert variant().name == "pruned"
    assert not Variant(variant().measured).unpacked


def test_memory_where_it_was_measured() -> None:
    peak, batch = r.in_memory(lambda memory: memory.peak), r.in_memory(lambda memory: memory.largest_batch)
    assert peak(variant()) == []
    memory = Memory(weights=1, peak=0, kv_bytes_per_token=3, measured_as="resident set size")
    subject = Subject(measured="peak: resident set size", protocol=("resident set size",))
    assert peak(variant(memory=memory)) == [Reading(0, subject=subject)]
    (beside,) = peak(variant(memory=memory, latency=[cell()]))
    assert beside.subject.protocol == ("resident set size", "batch 4, 12 + 128 tokens")  # the peak is over all cells
    assert batch(variant(memory=memory)) == []


def test_each_cell_that_has_the_figure() -> None:
    speedup, noise = r.in_cells(lambda cell: cell.speedup), r.in_cells(lambda cell: cell.noise)
    cells = [cell(batch_size=8), cell(speedup=ONE, noise=0.0), cell(output_tokens=32, speedup=ONE)]
    measured = "median of 20 runs, the variants in turn, with 95 % bootstrap intervals"
    name = "batch 4, 12 + 128 tokens"
    protocol = ("not compiled", "growing cache")
    subject = Subject((4, 12, 128), place=name, measured=measured, phrase=f" ({name})", protocol=protocol)
    assert r.cell_name(cells[1]) == name
    found = speedup(variant(latency=cells))
    assert found[0] == Reading(2, 1, 4, subject=subject)
    assert [reading.subject.key for reading in found] == [(4, 12, 128), (4, 12, 32)]
    assert noise(variant(latency=cells)) == [Reading(0.0, subject=subject)]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"compiled": True}, "; compiled by torch.compile after the first token"),
        ({"static_cache": True}, "; static cache, allocated before the timing"),
        ({}, ""),
    ],
)
def test_how_a_cell_was_run_is_told(how: dict[str, bool], told: str) -> None:
    (reading,) = r.in_cells(lambda cell: cell.seconds)(variant(latency=[cell(**how)]))
    assert reading.subject.measured.partition(" intervals")[2] == told
    (plain,) = r.in_cells(lambda cell: cell.seconds)(variant(latency=[cell()]))
    assert (reading.subject.protocol == plain.subject.protocol) == (not how)


def test_the_distance_on_each_text() -> None:
    read = r.on_texts(lambda found: (found.kl, found.kl_low, found.kl_high))
    found = Fidelity(text=TEXT, kl=0.0, kl_low=None, kl_high=0.5, top1_agreement=0.5)
    subject = Subject(
        ("5a", ""),
        place="news.txt",
        measured="1,040 × 1,128 tokens, with 95 % intervals",
        phrase=" on news.txt",
    )
    assert read(variant(fidelity=[found])) == [Reading(0.0, None, 0.5, subject=subject)]
    assert r.on_texts(lambda found: (None, 1, 2))(variant(fidelity=[found])) == []
    assert r.text_amount(TEXT) == "1,040 × 1,128 tokens"


def test_a_perplexity_with_its_ratio() -> None:
    alone = Perplexity(text=TEXT, protocol="windows", value=20, low=19, high=22)
    paired = Perplexity(text=TEXT, protocol="windows", value=20, ratio=0.0, ratio_low=-1, ratio_high=1.5)
    first, second = r.perplexities(variant(perplexity=[alone, paired]))
    assert (first.value, first.low, first.high, first.compared) == (20, 19, 22, None)
    assert second.compared == Estimate(0.0, -1, 1.5)
    assert (first.subject.key, first.subject.how) == (("5a", "windows"), "windows")


def test_a_task_with_its_drop() -> None:
    scores = [task(), task(drop=0.0, drop_low=-1, drop_high=0.5, standard_error=0.011, p_value=0.003, headline=False)]
    first, second = r.accuracies(variant(tasks=scores))
    how = "acc, 1,838 items, zero-shot, version 1.0"
    protocol = ("1,838 items", "zero-shot", "version 1.0")
    subject = Subject(("piqa", "acc", "none"), label="piqa", how=how, phrase=" on piqa", protocol=protocol)
    assert first == Reading(0.5, subject=subject)
    assert second.compared == Estimate(0.0, -1, 0.5)
    assert (second.note, second.counts) == ("± 1.10 %, p 0.0030", False)
    assert (second.low, second.high) == (None, None)


@pytest.mark.parametrize(
    ("changes", "label", "how"),
    [
        ({"filter": "strict"}, "piqa, strict", "acc, 1,838 items, zero-shot, version 1.0"),
        ({"few_shot": 1}, "piqa", "acc, 1,838 items, 1-shot, version 1.0"),
        ({"few_shot": 5, "items": 1}, "piqa", "acc, 1 item, 5-shot, version 1.0"),
        ({"filter": "a", "items": 0}, "piqa, a", "acc, 0 items, zero-shot, version 1.0"),
    ],
)
def test_how_a_task_was_measured_is_told(changes: dict[str, Any], label: str, how: str) -> None:
    (reading,) = r.accuracies(variant(tasks=[task(**changes)]))
    assert (reading.subject.label, reading.subject.how) == (label, how)


def test_the_files_of_the_variants() -> None:
    plain = variants_of(make_one())
    assert [one.name for one in plain] == ["original", "pruned", "recovered"]
    assert [(one.file, one.unpacked) for one in plain] == [(None, False)] * 3
    report = make_one(
        pruned=pruned(gguf=PrunedFile(path="m.gguf", bytes_before=90, bytes_after=80)),
        recovered=recovered(gguf=PrunedFile(path="r.gguf", bytes_before=90, bytes_after=81)),
    )
    came = report.model.model_copy(update={"file": SourceFile(bytes=90, type="Q4_1")})
    files = variants_of(report.model_copy(update={"model": came}))
    assert [one.file for one in files] == [VariantFile(90, "came in Q4_1"), VariantFile(80), VariantFile(81)]
    assert all(one.unpacked for one in files)
    last = report.benchmarks.variants[-1].model_copy(update={"variant": RECOVERED_FILE})
    measured = report.benchmarks.model_copy(update={"variants": [*report.benchmarks.variants, last]})
    rounded = variants_of(report.model_copy(update={"model": came, "benchmarks": measured}))[-1]
    assert (rounded.file, rounded.unpacked) == (VariantFile(81), False)
    counts: dict[str, Any] = {"bytes": 110, "file_bytes": 120, "quantised_parameters": 9, "other_parameters": 1}
    told: dict[str, Any] = {"options": {"type": "Q8_0"}, "path": "gguf-q8_0/m.gguf", "bits_per_weight": 8.5}
    way = QuantisedVariant(name="gguf-q8_0", kind="gguf", relative_error=0.01, seconds=1, **counts, **told)
    made = report.model_copy(update={"quantised": Quantised(variants=[way], seconds=1)})
    last = report.benchmarks.variants[-1].model_copy(update={"variant": "recovered-gguf-q8_0"})
    with_it = made.model_copy(
        update={"benchmarks": report.benchmarks.model_copy(update={"variants": [*report.benchmarks.variants, last]})}
    )
    assert variants_of(with_it)[-1].file == VariantFile(120)  # also where the model came otherwise
    unrecovered = report.model_copy(update={"model": came, "recovered": None})
    assert [one.file and one.file.bytes for one in variants_of(unrecovered)] == [90, 80, None]
