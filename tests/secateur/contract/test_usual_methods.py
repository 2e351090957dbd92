"""An object that names no method means the one that is meant where the object is absent."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from secateur.contract.options.recovery import DistillRecovery, LoraRecovery
from secateur.contract.options.scoring import PerplexityScoring
from secateur.contract.spec import CompressionSpec
from secateur.contract.validation_errors import field_errors

JOB: dict[str, Any] = {"model": {"source": "hub", "id": "some/model"}, "pruning": {"kind": "depth", "blocks": 2}}


def test_recovery_and_scoring_take_the_default_method() -> None:
    text = {"source": "local", "path": "news.txt"}
    spec = CompressionSpec.model_validate({**JOB, "recovery": {"text": text}, "scoring": {"plus": False}})
    assert isinstance(spec.recovery, DistillRecovery)
    assert spec.recovery.text.source == "local"
    assert isinstance(spec.scoring, PerplexityScoring)
    assert not spec.scoring.plus
    empty = CompressionSpec.model_validate({**JOB, "recovery": {}, "scoring": {}})
    assert empty == CompressionSpec.model_validate(JOB)


def test_with_a_preset_it_is_the_presets() -> None:
    spec = CompressionSpec.model_validate({**JOB, "preset": "shortened_llama", "recovery": {"max_steps": 5}})
    assert isinstance(spec.recovery, LoraRecovery)
    assert (spec.recovery.max_steps, spec.recovery.batch_size) == (5, 64)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"recovery": {"temprature": 2}}, "/recovery/temprature"),
        ({"recovery": {"kind": None}}, "/recovery/kind"),
        ({"recovery": {"kind": "lorra"}}, "/recovery/kind"),
        ({"recovery": []}, "/recovery"),
        ({"recovery": {"max_steps": 0}}, "/recovery/max_steps"),
        ({"scoring": {"calibration": {"samples": 0}}}, "/scoring/calibration/samples"),
        ({"pruning": {"blocks": 2}}, "/pruning/kind"),  # there is no default
    ],
)
def test_mistakes_are_told_where_they_are(change: dict[str, Any], pointer: str) -> None:
    with pytest.raises(ValidationError) as refused:
        CompressionSpec.model_validate({**JOB, **change})
    assert [error.pointer for error in field_errors(CompressionSpec, refused.value.errors())] == [pointer]
