"""Presets fill in what a spec leaves out, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from secateur.cli.spec_flags import merge
from secateur.contract.estimates.model import known_model
from secateur.contract.estimates.removal import removal_of
from secateur.contract.estimates.rough import Speed, rough_duration
from secateur.contract.estimates.setting import Setting
from secateur.contract.options.recovery import DistillRecovery, LoraRecovery
from secateur.contract.options.scoring import PerplexityScoring, TaylorScoring
from secateur.contract.options.training import TrainedRecovery
from secateur.contract.presets import PRESETS, Preset, fill_in
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_graph import planned
from secateur.contract.training_steps import most_steps, total_steps, warmup_of
from tests.fixtures.smollm2 import SMOLLM2_CONFIG

MODEL = {"source": "hub", "id": "some/model"}
SPEC: dict[str, Any] = {"model": MODEL, "pruning": {"kind": "depth", "blocks": 2}}
PAPER = {**SPEC, "preset": "shortened_llama"}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_valid_spec_and_says_no_more_than_a_job_may(name: str) -> None:
    spec = CompressionSpec.model_validate({**SPEC, "preset": name})
    assert spec.preset == name
    explicit = CompressionSpec.model_validate({**SPEC, **PRESETS[name].spec})
    assert spec.model_dump(exclude={"preset"}) == explicit.model_dump(exclude={"preset"})


@pytest.mark.parametrize("name", PRESETS)
def test_no_preset_ends_within_its_warm_up(name: str) -> None:
    recovery = CompressionSpec.model_validate({**SPEC, "preset": name}).recovery
    if isinstance(recovery, TrainedRecovery):
        steps = most_steps(recovery, samples=recovery.samples, tokens=recovery.tokens, validation=0, generated=True)
        assert steps is not None
        assert warmup_of(recovery.warmup_steps, steps, usual=recovery.usual_warmup) <= steps / 10
    long = {"recovery": {"kind": "lora", "warmup_steps": 16}}
    with pytest.raises(ValidationError, match="does not end in a training of 16"):
        CompressionSpec.model_validate({**PAPER, **long})


def test_the_quick_one_is_quick_and_trains_nothing() -> None:
    """Two cores, as quick as those of the tables in the documentation; a job that names nothing takes an hour there."""
    seconds = {name: _middle(name) for name in PRESETS}
    assert seconds["quick"] < 600 < seconds["shortened_llama"] < seconds["balanced"] < seconds["best"]
    quick = CompressionSpec.model_validate({**SPEC, "preset": "quick"})
    assert not isinstance(quick.recovery, TrainedRecovery)


def _middle(name: str) -> float:
    spec = CompressionSpec.model_validate({**SPEC, "pruning": {"kind": "depth", "blocks": 6}, "preset": name})
    model = known_model(SMOLLM2_CONFIG)
    assert model is not None
    job = Setting(spec, model, removal_of(spec, model), True, "cpu", 4)
    spans = [rough_duration(stage.kind, job, Speed(flops=2.5e11, read=1.3e10)) for stage in planned(spec)]
    return sum(2 * span.low for span in spans if span is not None)


def test_the_papers_recipe_is_what_the_paper_says() -> None:
    spec = CompressionSpec.model_validate(PAPER)
    assert isinstance(spec.scoring, PerplexityScoring)
    assert (spec.scoring.calibration.samples, spec.scoring.calibration.tokens, spec.scoring.plus) == (10, 128, True)
    recovery = spec.recovery
    assert isinstance(recovery, LoraRecovery)
    assert (recovery.rank, recovery.alpha, recovery.dropout, recovery.learning_rate) == (8, 16, 0.05, 1e-4)
    assert (recovery.batch_size, recovery.micro_batch_size, recovery.epochs, recovery.tokens) == (64, 4, 2, 256)
    alpaca = total_steps(49_759, 256, recovery)  # the paper's text: 51,760 rows, 2,001 of them held out
    assert warmup_of(recovery.warmup_steps, alpaca, usual=recovery.usual_warmup) == 100


def test_what_the_spec_says_stands_and_the_rest_is_the_presets() -> None:
    spec = CompressionSpec.model_validate({**PAPER, "recovery": {"kind": "lora", "rank": 16}})
    assert isinstance(spec.recovery, LoraRecovery)
    assert (spec.recovery.rank, spec.recovery.batch_size) == (16, 64)


def test_another_method_takes_nothing_of_the_presets() -> None:
    spec = CompressionSpec.model_validate(
        {**PAPER, "recovery": {"kind": "distill"}, "scoring": {"criterion": "taylor"}}
    )
    assert spec.recovery == DistillRecovery(kind="distill")
    assert spec.scoring == TaylorScoring(criterion="taylor")


def test_the_balanced_job_is_the_one_that_names_nothing() -> None:
    balanced = CompressionSpec.model_validate({**SPEC, "preset": "balanced"})
    assert balanced.model_dump(exclude={"preset"}) == CompressionSpec.model_validate(SPEC).model_dump(
        exclude={"preset"}
    )


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.depth_alone])
def test_a_preset_for_blocks_is_refused_by_its_name_where_something_else_goes(name: str) -> None:
    with pytest.raises(ValidationError, match="is for pruning of whole blocks") as refused:
        CompressionSpec.model_validate({"model": MODEL, "pruning": {"kind": "flap", "ratio": 0.2}, "preset": name})
    assert refused.value.errors()[0]["ctx"]["field"] == "preset"


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if not preset.depth_alone])
def test_the_other_presets_are_for_every_pruning(name: str) -> None:
    CompressionSpec.model_validate({"model": MODEL, "pruning": {"kind": "flap", "ratio": 0.2}, "preset": name})


def test_a_stored_spec_is_read_back_as_it_is() -> None:
    spec = CompressionSpec.model_validate({**PAPER, "recovery": {"kind": "lora", "rank": 16}})
    assert CompressionSpec.model_validate_json(spec.model_dump_json()) == spec


def test_an_unknown_preset_is_an_error_of_that_field() -> None:
    with pytest.raises(ValidationError) as refused:
        CompressionSpec.model_validate({**SPEC, "preset": "shortened-llama"})
    assert refused.value.errors()[0]["loc"] == ("preset",)


def test_an_option_on_the_command_line_is_one_of_the_presets_method() -> None:
    spec = merge({**PAPER}, {"recovery_max_steps": 5})
    assert spec["recovery"] == {"max_steps": 5, "kind": "lora"}


def test_filling_in_goes_through_nested_objects_and_changes_neither() -> None:
    preset = Preset("p", "", "", "", {"scoring": {"criterion": "a", "calibration": {"samples": 1, "tokens": 2}}})
    given = {"scoring": {"calibration": {"tokens": 3}}}
    assert fill_in(given, preset) == {"scoring": {"criterion": "a", "calibration": {"samples": 1, "tokens": 3}}}
    assert given == {"scoring": {"calibration": {"tokens": 3}}}
    assert fill_in({"scoring": None}, preset) == {"scoring": None}
