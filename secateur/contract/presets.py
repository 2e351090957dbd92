"""Presets: settings of a job under one name, such as the recipe of a paper.

A preset fills in what a spec leaves out and changes nothing that it says. Where the spec names another method than the
preset does, the preset's settings of that method do not apply. What was filled in stands in the job's spec as if it had
been written there, so a job can be repeated when a preset has changed. Each says how long it takes; the estimate of a
job says it for the job's own model and worker (`estimates/`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NAMES = ("criterion", "kind", "source")  # the field by which an object of the spec names its method


@dataclass(frozen=True)
class Preset:
    """One row: what it is, where it comes from, and the part of a spec that it gives."""

    name: str
    title: str
    summary: str
    paper: str
    spec: Mapping[str, Any]
    depth_alone: bool = False  # whether its settings hold for the pruning of whole blocks alone


PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "quick",
            "Quick",
            "Trains nothing: blocks by perplexity, then healing by least squares on 12,288 tokens that it "
            "writes itself, and a short benchmark. Minutes: 3 to 12 for 135 million parameters on two cores.",
            "Shopkhoev et al. 2025, ReplaceMe, arXiv 2505.02819",
            {
                "scoring": {"criterion": "perplexity", "plus": True},
                "recovery": {"kind": "healing", "samples": 96, "tokens": 128},
                "benchmark": {"latency": {"output_tokens": [64], "warmup": 2, "runs": 9}},
            },
            depth_alone=True,
        ),
        Preset(
            "balanced",
            "Balanced",
            "What a job does that names nothing: blocks by perplexity, healing, then all weights distilled from the "
            "original on 512 samples of 256 tokens that it writes itself. An hour: 20 minutes to 2 hours for 135 "
            "million parameters on two cores.",
            "Muralidharan et al. 2024, Minitron, arXiv 2407.14679",
            {
                "scoring": {"criterion": "perplexity", "plus": True},
                "recovery": {"kind": "distill"},
            },
        ),
        Preset(
            "best",
            "Best",
            "The blocks that are best once healed, healing, then what follows the cut distilled from the original in "
            "small steps, on four times the text and with more of its predictions. Hours: 1 to 3 for 135 million "
            "parameters on two cores.",
            "Muralidharan et al. 2024, Minitron, arXiv 2407.14679",
            {
                "scoring": {"criterion": "healed_greedy", "plus": True},
                "recovery": {
                    "kind": "distill",
                    "heal": True,
                    "train": "after_cut",
                    "top_k": 1024,
                    "learning_rate": 2e-4,
                    "batch_size": 4,
                    "micro_batch_size": 4,
                    "samples": 2048,
                    "epochs": 1,
                },
            },
            depth_alone=True,
        ),
        Preset(
            "shortened_llama",
            "Shortened LLaMA",
            "The paper's recipe: blocks by perplexity with the + rule, then LoRA by next-token loss, with 100 steps of "
            "warm-up where these are at most a tenth of all, as they are of the paper's. On text that it writes itself "
            "an hour at most for 135 million parameters on two cores.",
            "Kim et al. 2024, Shortened LLaMA, arXiv 2402.02834",
            {
                "scoring": {
                    "criterion": "perplexity",
                    "plus": True,
                    "calibration": {"samples": 10, "tokens": 128},
                },
                "recovery": {
                    "kind": "lora",
                    "rank": 8,
                    "alpha": 16,
                    "dropout": 0.05,
                    "learning_rate": 1e-4,
                    "batch_size": 64,
                    "micro_batch_size": 4,
                    "epochs": 2,
                    "tokens": 256,
                },
            },
        ),
    )
}


def fill_in(spec: Mapping[str, Any], preset: Preset) -> dict[str, Any]:
    """`spec`, a JSON object, with what the preset has and it has not."""
    return _under(preset.spec, spec)


def _under(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    filled = dict(above)
    for name, value in below.items():
        given = above.get(name)
        if name not in above:
            filled[name] = value
        elif isinstance(value, Mapping) and isinstance(given, Mapping) and _same_method(value, given):
            filled[name] = _under(value, given)
    return filled


def _same_method(below: Mapping[str, Any], above: Mapping[str, Any]) -> bool:
    return all(above.get(name, below[name]) == below[name] for name in NAMES if name in below)
