"""What the dashboard's pages show, computed from rows and reports: no HTML, no requests."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from app.db.tables import Job
from secateur.contract.jobs import State
from secateur.contract.numbers import PERCENT, duration, significant
from secateur.contract.results import Scores
from secateur.contract.stage_kinds import STAGE_KINDS
from secateur.report.text import block_list, plural
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
        label = f"block {score.block}: {'no score' if score.value is None else significant(score.value, 4)}, {kind}"
        bars.append(Bar(score.block, place * step + step * 0.12, base - tall, step * 0.76, tall, label, kind))
    every = max(1, len(bars) // 15)
    ticks = [(bar.x + bar.width / 2, bar.block) for bar in bars[::every]]
    return Plot(width, height, bars, ticks, significant(high, 4), significant(low, 4))


def elapsed(start: datetime | None, stop: datetime | None) -> str:
    """Between two times, or until now."""
    return "" if start is None else duration(max(0.0, ((stop or datetime.now(UTC)) - start).total_seconds()))


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
        words = f"{plural(pruning['units'], 'half', 'halves')} of blocks by {pruning.get('kind')}"
    elif pruning.get("kind") == "experts":
        asked = pruning.get("experts")
        share = plural(asked, "expert") if asked else f"{PERCENT.typed(pruning.get('ratio', 0))} of the experts"
        words = f"{share} by {pruning.get('criterion')}"
    elif pruning.get("drop"):
        words = f"block{'s' if len(pruning['drop']) > 1 else ''} {block_list(pruning['drop'])}"
    elif pruning.get("blocks"):
        words = f"{plural(pruning['blocks'], 'block')} by {scoring.get('criterion')}"
    elif pruning.get("kind") == "depth":
        words = f"{PERCENT.typed(pruning.get('ratio', 0))} of the blocks by {scoring.get('criterion')}"
    else:
        words = f"{PERCENT.typed(pruning.get('ratio', 0))} by {pruning.get('kind')}"
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
