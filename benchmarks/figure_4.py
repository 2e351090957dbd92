"""Depth against width on a small model and a CPU: the preset of the paper's figure 4, cut to what an hour allows.

    python benchmarks/figure_4.py smollm2.gguf --fit valid.txt --held-out test.txt --out found

Both texts lie under the service's data roots. Every method judges on the same text, and nothing is trained. A folder of
tasks under the data roots (`--folder`, `--task`) gives accuracy too. `--body` prints what is submitted, and `--sweep`
reads a sweep that was submitted before. In `--out` come the report as JSON and as the page with the plots.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from secateur import Client
from secateur.contract.intervals import Estimate
from secateur.contract.metrics import METRICS
from secateur.contract.numbers import ratio, span
from secateur.contract.pareto import apart
from secateur.contract.sweep_presets import SWEEP_PRESETS, unfolded
from secateur.contract.sweep_report import PointResult, SweepReport

PRESET = SWEEP_PRESETS["shortened_llama_figure_4"]
QUALITIES = ("kl", "perplexity", "accuracy")


def body(asked: argparse.Namespace) -> dict[str, Any]:
    """The preset's points, each with the text, and no more of the rest than was asked for.

    Those of one size follow each other, so that half a sweep already holds methods against each other.
    """
    spec = {
        "model": {"source": "local", "path": asked.model},
        "recovery": {"kind": "none"},
        "benchmark": {
            "latency": {
                "batch_sizes": asked.batch_sizes,
                "output_tokens": asked.output_tokens,
                "warmup": 1,
                "runs": asked.runs,
                "engines": ["transformers"],
            },
            "perplexity": {"texts": [{"source": "local", "path": asked.held_out}], "windows": asked.windows},
            "samples": None,
            "generation": None,
            "tasks": {"tasks": asked.task, "folder": asked.folder, "limit": asked.limit} if asked.task else None,
        },
    }
    made = unfolded({"spec": spec}, PRESET)
    text = {"source": "local", "path": asked.fit}
    for point in made["points"]:
        section = "scoring" if point["pruning"]["kind"] == "depth" else "pruning"
        point[section] = {**point[section], "calibration": {"text": text, "samples": asked.samples, "tokens": 128}}
    made["points"].sort(key=lambda point: point["pruning"].get("ratio") or 1 - point["pruning"]["target"]["parameters"])
    return made


def method(point: PointResult) -> str:
    """ "depth, taylor", "flap"."""
    names = ("pruning.kind", "scoring.criterion")
    return ", ".join(str(point.changes[name]) for name in names if name in point.changes)


def share(point: PointResult) -> float:
    """How much of the parameters was to go."""
    left = point.changes.get("pruning.target.parameters")
    return round(1 - left, 4) if left is not None else float(point.changes["pruning.ratio"])


def lines(report: SweepReport) -> Iterator[str]:
    """A table in Markdown, a row for each point that has a result."""
    done = sorted((point for point in report.points if point.cells), key=lambda point: (share(point), point.place))
    if not done:
        return
    qualities = [METRICS[name] for name in QUALITIES if any(name in point.figures for point in done)]
    cells = [f"batch {cell.batch_size}, {cell.input_tokens} + {cell.output_tokens}" for cell in done[0].cells]
    yield "| removed | method | parameters | " + " | ".join([*cells, *(one.label for one in qualities)]) + " |"
    yield "|--:|:--|" + "--:|" * (1 + len(cells) + len(qualities))
    for point in done:
        fast = [f"{ratio(cell.speedup.median)} ({span(cell.speedup.low, cell.speedup.high)})" for cell in point.cells]
        kept = []
        for metric in qualities:
            figure = point.figures[metric.name]
            between = metric.judged_format.span(figure.low, figure.high)
            kept.append(metric.judged_format.write(figure.value) + (f" ({between})" if between else ""))
        parameters = f"{point.figures['parameters'].value:,.0f}"
        yield "| " + " | ".join([f"{share(point):.0%}", method(point), parameters, *fast, *kept]) + " |"


def compared(report: SweepReport) -> Iterator[str]:
    """At each size and in each cell: the slower depth against the fastest width."""
    done = [point for point in report.points if point.cells]
    for size in sorted({share(point) for point in done}):
        for number, cell in enumerate(done[0].cells):
            depth, width = (
                [point for point in done if share(point) == size and method(point).startswith("depth") is deep]
                for deep in (True, False)
            )
            if depth and width:
                slow = min(depth, key=lambda point: point.cells[number].speedup.median)
                fast = max(width, key=lambda point: point.cells[number].speedup.median)
                one, two = (
                    Estimate(found.median, found.low, found.high)
                    for found in (slow.cells[number].speedup, fast.cells[number].speedup)
                )
                shown = "intervals apart" if apart(one, two) else "intervals overlap"
                yield (
                    f"{size:.0%} removed, batch {cell.batch_size}, {cell.output_tokens} tokens: {method(slow)} "
                    f"{ratio(one.value)}, {method(fast)} {ratio(two.value)}, {shown}"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--fit", required=True, help="the text that every method judges on")
    parser.add_argument("--held-out", required=True, help="the text that quality is measured on")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--output-tokens", type=int, nargs="+", default=[32])
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--windows", type=int, default=16)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--task", nargs="*", help="tasks of the folder")
    parser.add_argument("--folder")
    parser.add_argument("--limit", type=int, default=200, help="items of each task")
    parser.add_argument("--body", action="store_true", help="print what would be submitted, and submit nothing")
    parser.add_argument("--sweep", help="read this sweep in place of a new one")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    if asked.body:
        print(json.dumps(body(asked), indent=1))
        return
    with Client(asked.url) as client:
        sweep = asked.sweep or client.sweeps.create(body(asked)).id
        for state in client.sweeps.follow(sweep):
            print(
                f"{sweep}: {', '.join(f'{count} {name}' for name, count in state.counts.items() if count)}", flush=True
            )
        report = client.sweeps.report(sweep)
        if asked.out:
            asked.out.mkdir(parents=True, exist_ok=True)
            (asked.out / "report.json").write_text(report.model_dump_json(indent=1))
            (asked.out / "report.html").write_text(client.sweeps.report_text(sweep, "html"))
    print("\n".join(["", *lines(report), "", *compared(report)]))


if __name__ == "__main__":
    main()
