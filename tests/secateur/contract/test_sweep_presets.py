"""Presets of sweeps become points, of which each is a job that can be made."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from secateur.contract.spec import CompressionSpec
from secateur.contract.sweep import Bounds, SweepSpec, unfold
from secateur.contract.sweep_errors import checked_specs
from secateur.contract.sweep_presets import SWEEP_PRESETS
from secateur.contract.validation_errors import field_errors

MODEL = {"source": "hub", "id": "org/m"}
FIGURE_4 = "shortened_llama_figure_4"


def specs(**asked: Any) -> list[CompressionSpec]:
    found = SweepSpec.model_validate({"spec": {"model": MODEL}, **asked})
    return checked_specs(unfold(found, Bounds()))


@pytest.mark.parametrize("name", SWEEP_PRESETS)
def test_every_preset_can_be_asked_for(name: str) -> None:
    assert len(specs(preset=name)) == len(SWEEP_PRESETS[name].points)


def test_figure_4_holds_depth_against_width_at_equal_parameters() -> None:
    found = specs(preset=FIGURE_4)
    assert len(found) == 15
    left: dict[str, list[float]] = {}
    for spec in found:
        pruning: Any = spec.pruning
        by_depth = pruning.kind == "depth"
        name = f"depth {spec.scoring.criterion}" if by_depth else pruning.kind
        left.setdefault(name, []).append(pruning.target.parameters if by_depth else round(1 - pruning.ratio, 4))
        assert spec.recovery.kind == "lora"
        assert spec.benchmark.tasks is not None
        assert spec.benchmark.latency is not None
        assert spec.benchmark.latency.batch_sizes == (1, 16, 64)
    assert set(left) == {"depth perplexity", "depth taylor", "wanda_sp", "flap", "llm_pruner"}
    assert all(shares == [0.8, 0.73, 0.65] for shares in left.values())


def test_the_spec_goes_before_the_preset() -> None:
    spec = {"model": MODEL, "recovery": {"kind": "none"}, "benchmark": {"latency": {"batch_sizes": [1]}, "tasks": None}}
    for found in specs(preset=FIGURE_4, spec=spec):
        assert found.recovery.kind == "none"
        assert found.benchmark.tasks is None
        assert found.benchmark.latency is not None
        assert found.benchmark.latency.batch_sizes == (1,)
        assert found.benchmark.latency.output_tokens == (128, 512)


def test_what_was_filled_in_stands_in_the_sweep() -> None:
    asked = SweepSpec.model_validate({"spec": {"model": MODEL}, "preset": FIGURE_4})
    body = asked.model_dump(mode="json", exclude_unset=True)
    assert "preset" not in body
    assert SweepSpec.model_validate(body) == asked


@pytest.mark.parametrize(
    ("more", "words"), [({"grid": {"seed": [1]}}, "has points of its own"), ({"preset": "figure_5"}, "preset")]
)
def test_what_does_not_go_together(more: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        SweepSpec.model_validate({"spec": {"model": MODEL}, "preset": FIGURE_4, **more})


def test_a_job_has_no_preset_of_sweeps() -> None:
    spec = {"model": MODEL, "pruning": {"kind": "depth", "blocks": 6}, "preset": FIGURE_4}
    with pytest.raises(ValidationError) as refused:
        CompressionSpec.model_validate(spec)
    (error,) = field_errors(CompressionSpec, refused.value.errors())
    assert (error.pointer, error.detail) == ("/preset", f"`{FIGURE_4}` is a preset of sweeps, and not of a job")
    assert "secateur sweep" in str(error.expected)
