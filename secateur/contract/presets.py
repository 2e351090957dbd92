"""Presets: settings of a job under one name, such as the recipe of a paper.

A preset fills in what a spec leaves out and changes nothing that it says. Where the spec names another method than the
preset does, the preset's settings of that method do not apply. What was filled in stands in the job's spec as if it had
been written there, so a job can be repeated when a preset has changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_NAMES = ("criterion", "kind", "source")  # the field by which an object of the spec names its method


@dataclass(frozen=True)
class Preset:
    """One row: what it is, where it comes from, and the part of a spec that it gives."""

    name: str
    title: str
    summary: str
    paper: str
    spec: Mapping[str, Any]


PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "shortened_llama",
            "Shortened LLaMA",
            "The paper's recipe: blocks by perplexity with the + rule, then LoRA by next-token loss, with 100 steps of "
            "warm-up where these are at most a tenth of all, as they are of the paper's.",
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
    return all(above.get(name, below[name]) == below[name] for name in _NAMES if name in below)
