"""The figures of a model's speed under an engine that models are deployed with: the same ones for each engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from secateur.contract import numbers as n
from secateur.contract.measurements import EngineCell, Measurement
from secateur.contract.metric_row import CHANGE, Metric, Section
from secateur.contract.readings import under

Cells = Callable[[Measurement], list[EngineCell]]


class EngineMetrics(NamedTuple):
    """The rows of one engine."""

    speedup: Metric
    tokens_per_second: Metric
    prompt_tokens_per_second: Metric
    noise: Metric


def metrics_under(name: str, title: str, cells: Cells) -> EngineMetrics:
    """The rows of the engine `name`, which people call `title` and whose cells are these."""
    section = Section(f"Speed under {title}", of_machine=True)
    return EngineMetrics(
        Metric(
            f"{name}_speedup",
            f"Speedup under {title}",
            section,
            under(cells, lambda cell: cell.speedup),
            n.RATIO,
            better="higher",
            measured_by="latency",
            at_original=1,
            sought="speedup",
            how="median of paired ratios",
            short=True,
            headline=True,
        ),
        Metric(
            f"{name}_tokens_per_second",
            f"Tokens per second under {title}",
            section,
            under(cells, lambda cell: cell.tokens_per_second),
            n.NUMBER,
            better="higher",
            measured_by="latency",
            compares=CHANGE,
            short=True,
        ),
        Metric(
            f"{name}_prompt_tokens_per_second",
            f"Prompt tokens per second under {title}",
            section,
            under(cells, lambda cell: cell.prompt_tokens_per_second),
            n.NUMBER,
            better="higher",
            measured_by="latency",
            compares=CHANGE,
            how="read until the first that is generated",
        ),
        Metric(
            f"{name}_noise",
            f"Noise under {title}",
            section,
            under(cells, lambda cell: cell.noise),
            n.PERCENT,
            better="lower",
            measured_by="latency",
            how="by which the original differs from itself",
        ),
    )
