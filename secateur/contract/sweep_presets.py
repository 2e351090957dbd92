"""Presets of sweeps: the comparisons of a paper under one name.

A preset gives the points and fills in what the spec leaves out, as the preset of a job does. What was filled in stands
in the sweep as if it had been written there, so a sweep can be repeated when a preset has changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticCustomError

from secateur.contract.options.papers import SHORTENED_LLAMA
from secateur.contract.presets import PRESETS, Preset, fill_in


@dataclass(frozen=True)
class SweepPreset:
    """One row: settings for the spec of all points, and the points."""

    settings: Preset
    points: tuple[Mapping[str, Any], ...]


def _depth_against_width(*shares: float) -> tuple[Mapping[str, Any], ...]:
    """Every method at equal parameters: those that remove whole blocks are told how many parameters may be left."""
    depth = [
        {
            "pruning": {"kind": "depth", "target": {"parameters": round(1 - share, 4)}},
            "scoring": {"criterion": criterion, "plus": True},
        }
        for criterion in ("perplexity", "taylor")
        for share in shares
    ]
    width = [
        {"pruning": {"kind": kind, "ratio": share}} for kind in ("wanda_sp", "flap", "llm_pruner") for share in shares
    ]
    return (*depth, *width)


SWEEP_PRESETS: Mapping[str, SweepPreset] = {
    preset.settings.name: preset
    for preset in (
        SweepPreset(
            Preset(
                "shortened_llama_figure_4",
                "Shortened LLaMA, figure 4",
                "Depth pruning by perplexity and by Taylor+ against Wanda-sp, FLAP and LLM-Pruner with 20, 27 and 35 % "
                "of the parameters removed: latency and throughput over batch sizes and output lengths, and zero-shot "
                "accuracy, after the paper's retraining.",
                SHORTENED_LLAMA,
                {
                    "preset": "shortened_llama",
                    "benchmark": {
                        "latency": {"batch_sizes": [1, 16, 64], "output_tokens": [128, 512]},
                        "tasks": {},
                    },
                },
            ),
            _depth_against_width(0.2, 0.27, 0.35),
        ),
    )
}


def refuse_for_one_job(name: object) -> None:
    """A job's preset may not be one of these, whose points are jobs. Raises PydanticCustomError."""
    if isinstance(name, str) and name in SWEEP_PRESETS:
        raise PydanticCustomError(
            "preset_of_sweeps",
            "`{preset}` is a preset of sweeps, and not of a job",
            {
                "preset": name,
                "field": "preset",
                "expected": f"one of {', '.join(PRESETS)}; or a sweep, by `POST /sweeps` or `secateur sweep`",
            },
        )


def unfolded(asked: Mapping[str, Any], preset: SweepPreset) -> dict[str, Any]:
    """The body of a sweep with what the preset gives in the place of its name."""
    spec = asked.get("spec", {})
    filled = fill_in(spec, preset.settings) if isinstance(spec, Mapping) else spec
    rest = {name: value for name, value in asked.items() if name != "preset"}
    return {**rest, "spec": filled, "points": [dict(point) for point in preset.points]}
