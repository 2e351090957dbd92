"""What of a benchmark is measured by running a model, and so needs one that this worker can compute with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secateur.contract.errors import FieldError, UnsupportedModel
from secateur.contract.models.quantised import quantised_by
from secateur.contract.options.benchmark import Benchmark
from workers.engine.checkpoints.computable import why_not_computable

SIZES_ALONE = "Only sizes were taken, from the files: the job asks for no other measurement."


def measured_parts(benchmark: Benchmark) -> dict[str, str]:
    """The fields that ask for more than sizes, each with what leaves it out."""
    left_out = dict.fromkeys(("latency", "perplexity", "samples", "generation", "tasks", "draft"), "null")
    fields = {f"/benchmark/{name}": by for name, by in left_out.items() if benchmark.measures(name)}
    return {**fields, "/benchmark/fidelity/enabled": "false"} if benchmark.measures("fidelity") else fields


def refuse_unmeasurable(benchmark: Benchmark, config: Mapping[str, Any]) -> None:
    """Refuse to measure a model that this worker cannot compute with; without those fields its sizes are taken.

    Raises:
        UnsupportedModel: names every field that asks for more.
    """
    fields = measured_parts(benchmark)
    reason = why_not_computable(config) if fields else None
    if reason is None:
        return
    method = quantised_by(config)
    errors = [
        FieldError(pointer, reason, method, f"{left_out}, or a worker with what transformers needs for {method}")
        for pointer, left_out in fields.items()
    ]
    raise UnsupportedModel(reason, errors=errors)
