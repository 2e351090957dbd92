"""Estimates held against what jobs then gave, on a running service.

    python benchmarks/estimates_of_jobs.py smollm2.gguf --url http://127.0.0.1:8000 --text news.txt

The model lies under the service's model roots and the text under its data roots. Each job is estimated before it is
submitted and once more after it is over, when its own stages are among those that times and memory are told from.
Jobs run one after the other, so that times are not of a machine that has other things to do.
"""

from __future__ import annotations

import argparse
from typing import Any

from secateur import Client
from secateur.contract.numbers import percent, ratio, size
from secateur.contract.report import Report
from secateur.schemas.estimates import Estimate
from secateur.schemas.jobs import Job


def specs(model: str, text: str) -> dict[str, dict[str, Any]]:
    """One of each kind of pruning that a dense model takes, and of the usual stages."""
    words = {"source": "local", "path": text}
    timed = {"latency": {"output_tokens": [64], "warmup": 2, "runs": 9}, "samples": None, "generation": None}
    untimed = {**timed, "latency": None}
    timed["perplexity"] = untimed["perplexity"] = {"texts": [words], "windows": 4}
    calibration = {"text": words, "samples": 4, "tokens": 128}
    trained = {"text": words, "samples": 8, "batch_size": 4, "micro_batch_size": 4, "tokens": 128, "epochs": 1}
    nothing = {"kind": "none"}
    jobs: dict[str, dict[str, Any]] = {
        "6 blocks by perplexity": {
            "scoring": {"criterion": "perplexity", "calibration": calibration},
            "pruning": {"kind": "depth", "blocks": 6},
            "recovery": nothing,
            "benchmark": timed,
        },
        "9 blocks, LoRA": {
            "scoring": {"criterion": "magnitude"},
            "pruning": {"kind": "depth", "ratio": 0.3},
            "recovery": {"kind": "lora", **trained},
            "quantise": [{"kind": "int8"}],
            "benchmark": timed,
        },
        "5 attentions": {
            "pruning": {"kind": "sub_block", "drop": [f"{block}.attention" for block in range(10, 15)]},
            "recovery": nothing,
            "benchmark": untimed,
        },
        "Wanda-sp, a fifth": {
            "pruning": {"kind": "wanda_sp", "ratio": 0.2, "calibration": calibration},
            "recovery": nothing,
            "benchmark": timed,
        },
    }
    return {name: {"model": {"source": "local", "path": model}, **job} for name, job in jobs.items()}


def off(estimated: float | None, measured: float | None) -> str:
    """By how much the estimate misses."""
    if estimated is None or measured is None:
        return "unknown"
    return percent(estimated / measured - 1, 2)


def show(name: str, before: Estimate, after: Estimate, job: Job, report: Report) -> None:
    """One job's figures, estimated and found."""
    print(f"\n## {name}\n")
    pruned, estimated = report.pruned, before.pruned
    if estimated is not None:
        certain = "exact" if estimated.exact else f"± {estimated.spread:,}"
        print(f"parameters {estimated.parameters:,} ({certain}), {pruned.parameters_after:,} left")
        print(f"bytes {off(estimated.bytes, pruned.bytes_after)}")
    variants = report.benchmarks.variants
    cell = next((cell for variant in variants[1:] for cell in variant.latency if cell.speedup is not None), None)
    if cell is not None and cell.speedup is not None and before.speedup is not None:
        print(
            f"speedup {ratio(before.speedup.value)} by {before.speedup.basis}, measured {ratio(cell.speedup.median)} "
            f"({cell.speedup.low:.2f} to {cell.speedup.high:.2f}): {off(before.speedup.value, cell.speedup.median)}"
        )
    told = {stage.key: stage for stage in before.stages}
    again = {stage.key: stage for stage in after.stages}
    for stage in job.stages:
        if stage.started_at is None or stage.finished_at is None:
            continue
        took = (stage.finished_at - stage.started_at).total_seconds()
        memory = told[stage.key].memory_bytes
        print(
            f"{stage.key}: memory {size(memory or 0)} by {told[stage.key].memory_basis}, "
            f"used {size(stage.memory_bytes or 0)}: {off(memory, stage.memory_bytes)}; "
            f"time {told[stage.key].seconds} s before, {again[stage.key].seconds} s after, took {took:.1f} s"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--text", required=True)
    parser.add_argument("--url", default=None)
    arguments = parser.parse_args()
    with Client(arguments.url) as client:
        for name, spec in specs(arguments.model, arguments.text).items():
            before = client.jobs.estimate(spec)
            job = client.jobs.wait(client.jobs.create(spec).id)
            show(name, before, client.jobs.estimate(spec), job, client.jobs.report(job.id))


if __name__ == "__main__":
    main()
