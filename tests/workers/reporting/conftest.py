"""A report as a real job of a 30-block model would make it, and with parts left out or replaced."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from secateur.contract.results import (
    Benchmarks,
    BlockScore,
    Environment,
    Fidelity,
    Interval,
    LatencyCell,
    LossPoint,
    Measurement,
    Memory,
    ModelInfo,
    Perplexity,
    Pruned,
    Recovered,
    Report,
    Sample,
    Scores,
    TaskScore,
    TextInfo,
)
from secateur.contract.spec import CompressionSpec
from workers.reporting.assemble import assemble

MakeReport = Callable[..., Report]

MACHINE = Environment(
    device="cpu",
    device_name="AMD EPYC 7B13",
    dtype="float32",
    threads=2,
    platform="Linux-6.1-x86_64",
    python="3.11.9",
    versions={"secateur": "0.1.0", "torch": "2.13.0", "transformers": "5.24.0", "peft": "0.21.2"},
)
MODEL = ModelInfo(
    id="HuggingFaceTB/SmolLM2-135M-Instruct",
    revision="12fd25f77366fa6b3b4b768ec3050bf629380bac",
    fingerprint="5d" * 32,
    family="llama",
    blocks=30,
    parameters=134_515_008,
    bytes_on_disk=538_090_408,
)
CALIBRATION = TextInfo(
    description="news.txt, 0 to 0.6", source="local", identity="news.txt", samples=10, tokens=128, sha256="a1" * 32
)
TRAINING = TextInfo(
    description="news.txt, 0 to 0.6", source="local", identity="news.txt", samples=480, tokens=128, sha256="b2" * 32
)
HELD_OUT = TextInfo(
    description="news.txt, 0.6 to 1", source="local", identity="news.txt", samples=40, tokens=128, sha256="c3" * 32
)
WIKI = TextInfo(
    description="Salesforce/wikitext, wikitext-2-raw-v1, test",
    source="hub",
    identity="Salesforce/wikitext",
    samples=60,
    tokens=128,
    sha256="d4" * 32,
)
DROPPED = [10, 17, 20, 21, 24, 25]


def interval(median: float, part: float = 0.02) -> Interval:
    return Interval(median=median, low=median * (1 - part), high=median * (1 + part))


def latency_cell(
    rate: float, *, batch: int = 1, output: int = 128, speedup: Interval | None = None, noise: float | None = None
) -> LatencyCell:
    return LatencyCell(
        batch_size=batch,
        input_tokens=12,
        output_tokens=output,
        runs=20,
        seconds=interval(batch * output / rate),
        tokens_per_second=interval(rate),
        time_to_first_token=interval(0.043 * 30 / rate),
        time_per_output_token=interval(batch / rate),
        speedup=speedup,
        noise=noise,
    )


def scores() -> Scores:
    values = [46 + 9 * math.sin(1.7 * b) + (900 if b == 0 else 60 if b in (1, 2, 29) else 0) for b in range(30)]
    for rank, block in enumerate(DROPPED):
        values[block] = 31.2 + rank * 0.8
    order = sorted(range(30), key=lambda block: values[block])
    protected = [0, 1, 2, 3, 28, 29]
    return Scores(
        criterion="perplexity",
        options={"criterion": "perplexity", "plus": True},
        blocks=[BlockScore(block=b, value=v, standard_error=v * 0.03) for b, v in enumerate(values)],
        order=order,
        protected=protected,
        drop=DROPPED,
        calibration=CALIBRATION,
        model=MODEL,
        seed=0,
        seconds=38.4,
        environment=MACHINE,
    )


def pruned(**changes: Any) -> Pruned:
    return Pruned(
        kind="depth",
        dropped=DROPPED,
        kept=[block for block in range(30) if block not in DROPPED],
        parameters_before=134_515_008,
        parameters_after=113_275_008,
        bytes_before=538_090_408,
        bytes_after=453_130_000,
        seconds=0.42,
        model=MODEL,
    ).model_copy(update=changes)


def recovered(**changes: Any) -> Recovered:
    curve = [LossPoint(step=s, loss=3.1 + 1.3 * math.exp(-s / 18), learning_rate=1e-4) for s in range(2, 62, 2)]
    return Recovered(
        kind="lora",
        options={"kind": "lora", "rank": 8, "alpha": 16.0, "dropout": 0.05, "learning_rate": 1e-4, "max_steps": 60},
        text=TRAINING,
        trainable_parameters=1_953_792,
        steps=60,
        tokens=61_440,
        curve=curve,
        seconds=131.0,
        environment=MACHINE,
    ).model_copy(update=changes)


def variant(name: str, index: int) -> Measurement:
    rate = [21.4, 26.6, 26.5][index]
    speedup = None if index == 0 else Interval(median=rate / 21.4, low=rate / 21.4 - 0.03, high=rate / 21.4 + 0.03)
    news, wiki = [24.1, 88.2, 36.3][index], [31.4, 138.0, 77.9][index]
    return Measurement(
        variant=name,
        parameters=134_515_008 if index == 0 else 113_275_008,
        blocks=30 if index == 0 else 24,
        bytes_on_disk=538_090_408 if index == 0 else 453_130_000,
        latency=[
            latency_cell(rate, speedup=speedup, noise=0.018),
            latency_cell(rate * 3.1, batch=4, output=32, speedup=speedup, noise=0.031),
        ],
        memory=Memory(
            weights=538_060_032 if index == 0 else 453_100_032,
            peak=1_204_000_000 if index == 0 else 1_118_000_000,
            kv_bytes_per_token=23_040 if index == 0 else 18_432,
            measured_as="resident set size",
        ),
        perplexity=[
            Perplexity(
                text=text,
                protocol="windows of 128 tokens, no overlap, no BOS",
                value=value,
                low=value * 0.93,
                high=value * 1.08,
            )
            for text, value in ((HELD_OUT, news), (WIKI, wiki))
        ],
        fidelity=[]
        if index == 0
        else [
            Fidelity(
                text=text,
                kl=kl,
                kl_low=kl * 0.94,
                kl_high=kl * 1.06,
                top1_agreement=agreement,
                top1_agreement_low=agreement * 0.98,
                top1_agreement_high=agreement * 1.02,
            )
            for text, kl, agreement in (
                (HELD_OUT, [0, 1.31, 0.44][index], [1, 0.412, 0.631][index]),
                (WIKI, [0, 1.48, 0.83][index], [1, 0.391, 0.548][index]),
            )
        ],
        tasks=[
            TaskScore(
                task=name,
                metric="acc",
                value=value - 0.04 * index,
                standard_error=0.011,
                items=1838,
                few_shot=0,
                version="1.0",
                drop=0.04 * index if index else None,
                drop_low=0.04 * index - 0.015 if index else None,
                drop_high=0.04 * index + 0.015 if index else None,
                p_value=0.003 / index if index else None,
            )
            for name, value in (("piqa", 0.671), ("arc_easy", 0.583), ("boolq", 0.6))
        ],
        samples=[
            Sample(prompt="The history of the city begins", text=" in the 12th century, when a ford was built."),
            Sample(prompt="She opened the letter and read:", text=" “Dear friend,\nI hope that you are well.”"),
        ],
    )


def benchmarks(**changes: Any) -> Benchmarks:
    names = ("original", "pruned", "recovered")
    return Benchmarks(
        variants=[variant(name, index) for index, name in enumerate(names)],
        environment=MACHINE,
        seconds=203.0,
        notes=["The recovered model was trained on news.txt and its perplexity measured on other parts of the same."],
    ).model_copy(update=changes)


SPEC = {
    "model": {"source": "hub", "id": MODEL.id},
    "pruning": {"kind": "depth", "blocks": 6},
    "gates": {"min_speedup": 1.2, "max_kl": 0.5, "min_top1_agreement": 0.5, "max_parameters": 120_000_000},
    "labels": {"commit": "abc123", "pipeline": "nightly"},
}


@pytest.fixture(scope="session")
def make_report() -> MakeReport:
    """Builds a report; keyword arguments replace stage results (`scores=None` leaves them out) or parts of the spec."""

    def make(**changes: Any) -> Report:
        parts: dict[str, Any] = {
            "scores": scores(),
            "pruned": pruned(),
            "recovered": recovered(),
            "benchmarks": benchmarks(),
        }
        parts.update({key: changes.pop(key) for key in list(changes) if key in parts})
        return assemble(
            job_id=UUID("0193a1b2-0000-7000-8000-000000000001"),
            created_at=datetime(2026, 11, 24, 18, 0, tzinfo=UTC),
            spec=CompressionSpec.model_validate(SPEC | changes),
            **parts,
        )

    return make


@pytest.fixture
def report(make_report: MakeReport) -> Report:
    return make_report()
