"""What the dashboard's pages show, computed from rows and reports: no HTML, no requests."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from app.db.tables import Job
from secateur.contract.jobs import State
from secateur.contract.results import Measurement, Report, Scores
from secateur.contract.stage_kinds import STAGE_KINDS
from secateur.schemas.jobs import JobSummary

LOADER = "modeling_secateur.py"  # lies beside weights that only it can load


@dataclass(frozen=True)
class Bar:
    """One block in the plot of importance; lengths are in the plot's own units."""

    block: int
    x: float
    y: float
    width: float
    height: float
    label: str
    kind: str  # "kept", "dropped", "protected", "unscored"


@dataclass(frozen=True)
class Plot:
    """The importance of each block as bars."""

    width: float
    height: float
    bars: list[Bar]
    ticks: list[tuple[float, int]]  # x, block
    top: str  # the greatest score, in words
    bottom: str


@dataclass(frozen=True)
class Tile:
    """One figure of the result."""

    name: str
    value: str
    note: str


def importance(scores: Scores) -> Plot:
    """Bars from the least score to the greatest: what matters is how blocks differ, and not how far zero is."""
    width, height, base = 720.0, 150.0, 132.0
    values = [score.value for score in scores.blocks if score.value is not None]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    step = width / max(1, len(scores.blocks))
    bars = []
    for place, score in enumerate(scores.blocks):
        share = 0.0 if score.value is None else 1.0 if high == low else (score.value - low) / (high - low)
        tall = 4 + share * (base - 10) if score.value is not None else 2.0
        kind = "kept"
        if score.block in scores.drop:
            kind = "dropped"
        elif score.value is None:
            kind = "unscored"
        elif score.block in scores.protected:
            kind = "protected"
        label = f"block {score.block}: {'no score' if score.value is None else f'{score.value:.5g}'}, {kind}"
        bars.append(Bar(score.block, place * step + step * 0.12, base - tall, step * 0.76, tall, label, kind))
    every = max(1, len(bars) // 15)
    ticks = [(bar.x + bar.width / 2, bar.block) for bar in bars[::every]]
    return Plot(width, height, bars, ticks, f"{high:.4g}", f"{low:.4g}")


def tiles(report: Report) -> list[Tile]:
    """The figures that answer "was it worth it"; what was not measured has no tile."""
    original = report.benchmarks.variants[0]
    final = next((m for m in report.benchmarks.variants if m.variant == report.final_variant), original)
    found = [_speedup(final), _perplexity(original, final), _fidelity(final)]
    smaller = 1 - final.parameters / original.parameters if original.parameters else 0.0
    found.append(
        Tile("Parameters", count(final.parameters), f"{count(original.parameters)} before, {smaller:.1%} fewer")
    )
    found.append(_on_disk(report, original, final))
    return [tile for tile in found if tile is not None]


def _on_disk(report: Report, original: Measurement, final: Measurement) -> Tile:
    """The size of the files: of GGUF files where the model came as one and goes as one."""
    files = {"pruned": report.pruned.gguf, "recovered": report.recovered.gguf if report.recovered else None}
    file = files.get(final.variant)
    if report.model.file is not None and file is not None:
        return Tile("GGUF file", size(file.bytes_after), f"{size(report.model.file.bytes)} before")
    came = f", out of a GGUF file of {size(report.model.file.bytes)}" if report.model.file else ""
    return Tile("On disk", size(final.bytes_on_disk), f"{size(original.bytes_on_disk)} before{came}")


def _speedup(final: Measurement) -> Tile | None:
    if not final.latency or final.latency[0].speedup is None:
        return None
    cell, ratio = final.latency[0], final.latency[0].speedup
    note = f"{ratio.low:.2f} to {ratio.high:.2f}; batch {cell.batch_size}, {cell.input_tokens} + {cell.output_tokens}"
    return Tile("Speedup", f"{ratio.median:.2f}×", note)


def _perplexity(original: Measurement, final: Measurement) -> Tile | None:
    if not original.perplexity or not final.perplexity:
        return None
    before, after = original.perplexity[0], final.perplexity[0]
    return Tile("Perplexity", f"{after.value:.2f}", f"{before.value:.2f} before; {after.text.description}")


def _fidelity(final: Measurement) -> Tile | None:
    if not final.fidelity:
        return None
    worst = max(final.fidelity, key=lambda item: item.kl)
    return Tile("KL divergence", f"{worst.kl:.3f}", f"top-1 agreement {worst.top1_agreement:.1%}")


def count(number: int) -> str:
    """1234567 → "1.23 M"."""
    for unit, scale in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= scale:
            return f"{number / scale:.3g} {unit}"
    return str(number)


def size(number: int) -> str:
    """Bytes in words: 1536 → "1.5 KiB"."""
    value = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def duration(start: datetime | None, stop: datetime | None) -> str:
    """Between two times, or until now: "1 h 02 min", "3 min 05 s", "4.2 s"."""
    if start is None:
        return ""
    seconds = max(0.0, ((stop or datetime.now(UTC)) - start).total_seconds())
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def progress(job: JobSummary) -> float:
    """How much of the job is done, each stage weighing the same: 0 to 1."""
    done = 0.0
    for stage in job.stages:
        if stage.state is State.SUCCEEDED:
            done += 1
        elif stage.state is State.RUNNING and stage.progress and stage.progress.total:
            done += min(1.0, stage.progress.done / stage.progress.total)
    return done / max(1, len(job.stages))


def what(spec: dict[str, Any]) -> str:
    """What the job does to the model, in a few words: "6 blocks by perplexity, lora"."""
    pruning, scoring, recovery = spec.get("pruning", {}), spec.get("scoring", {}), spec.get("recovery", {})
    if pruning.get("drop") and pruning.get("kind") != "depth":
        words = ", ".join(map(str, pruning["drop"]))
    elif pruning.get("units"):
        words = f"{pruning['units']} halves of blocks by {pruning.get('kind')}"
    elif pruning.get("drop"):
        words = f"blocks {', '.join(map(str, pruning['drop']))}"
    elif pruning.get("blocks"):
        words = f"{pruning['blocks']} blocks by {scoring.get('criterion')}"
    elif pruning.get("kind") == "depth":
        words = f"{pruning.get('ratio', 0):.0%} of the blocks by {scoring.get('criterion')}"
    else:
        words = f"{pruning.get('ratio', 0):.0%} by {pruning.get('kind')}"
    kind = recovery.get("kind")
    return words if kind in (None, "none") else f"{words}, then {kind}"


def load_snippet(job: Job, paths: list[str]) -> str | None:
    """How to fetch the result and load it; None before there is a checkpoint."""
    for stage in [kind.name for kind in reversed([*STAGE_KINDS.values()]) if kind.checkpoint]:
        if any(path.startswith(f"{stage}/checkpoint/") for path in paths):
            if f"{stage}/checkpoint/{LOADER}" in paths:
                return (
                    f"secateur download {job.id} pruned --prefix {stage}/checkpoint/\n\n"
                    f"# with pruned/{stage}/checkpoint, where {LOADER} lies, on the path\n"
                    "from transformers import AutoTokenizer\n"
                    f"from {LOADER.removesuffix('.py')} import load\n\n"
                    f'model = load("pruned/{stage}/checkpoint")\n'
                    f'tokenizer = AutoTokenizer.from_pretrained("pruned/{stage}/checkpoint")\n'
                )
            return (
                f"secateur download {job.id} pruned --prefix {stage}/checkpoint/\n\n"
                "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
                f'model = AutoModelForCausalLM.from_pretrained("pruned/{stage}/checkpoint")\n'
                f'tokenizer = AutoTokenizer.from_pretrained("pruned/{stage}/checkpoint")\n'
            )
    return None
