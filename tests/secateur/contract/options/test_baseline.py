"""What a baseline may be, and how a slip is told."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from secateur.contract.gate_needs import never_passed
from secateur.contract.spec import CompressionSpec
from secateur.contract.validation_errors import field_errors

ID = "0193a1b2-0000-7000-8000-000000000001"
USUAL = {"label": {"branch": "main"}, "max_regression": {"kl": 0.1}}


def spec(baseline: Any, **more: Any) -> dict[str, Any]:
    return {
        "model": {"source": "hub", "id": "org/model"},
        "pruning": {"kind": "depth", "blocks": 1},
        "baseline": baseline,
        **more,
    }


def test_by_label_or_by_job() -> None:
    by_label = CompressionSpec.model_validate(spec(USUAL)).baseline
    assert by_label is not None
    assert by_label.in_words == "the label branch=main"
    by_job = CompressionSpec.model_validate(spec({"job": ID, "max_regression": {"kl": 0}})).baseline
    assert by_job is not None
    assert by_job.in_words == f"job {ID}"
    two = {"branch": "main", "model": "small"}
    both = CompressionSpec.model_validate(spec({**USUAL, "label": two})).baseline
    assert both is not None
    assert both.in_words == "the labels branch=main, model=small"


@pytest.mark.parametrize(
    ("baseline", "pointer", "words"),
    [
        ({"max_regression": {"kl": 0.1}}, "/baseline", "exactly one of `label` and `job`, not none"),
        ({**USUAL, "job": ID}, "/baseline", "exactly one of `label` and `job`"),
        ({**USUAL, "label": {}}, "/baseline/label", "1 to 32 fields"),
        ({**USUAL, "label": {"a b": "c"}}, "/baseline/label/a b", ""),
        ({"label": {"branch": "main"}}, "/baseline/max_regression", "required"),
        ({**USUAL, "max_regression": {}}, "/baseline/max_regression", "at least 1"),
        ({**USUAL, "max_regression": {"speed": 0.1}}, "/baseline/max_regression/speed", "did you mean 'speedup'"),
        ({**USUAL, "max_regression": {"noise": 0.1}}, "/baseline/max_regression/noise", ""),
        ({**USUAL, "max_regression": {"kl": -0.1}}, "/baseline/max_regression/kl", "at least 0"),
        ({**USUAL, "max_regression": {"kl": "much"}}, "/baseline/max_regression/kl", "number"),
        ({**USUAL, "max_regression": 0.1}, "/baseline/max_regression", "object"),
        ({"job": "latest", "max_regression": {"kl": 0.1}}, "/baseline/job", ""),
    ],
)
def test_a_slip_is_told(baseline: Any, pointer: str, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        CompressionSpec.model_validate(spec(baseline))
    found = field_errors(CompressionSpec, caught.value.errors(include_url=False))
    assert [error.pointer for error in found] == [pointer]
    assert words in f"{found[0].detail}, expected {found[0].expected}"


def test_a_figure_that_the_job_does_not_measure_is_refused() -> None:
    asked = CompressionSpec.model_validate(spec({**USUAL, "max_regression": {"accuracy": 0.02, "kl": 0.1}}))
    (error,) = never_passed(asked)
    assert (error.pointer, error.value) == ("/baseline/max_regression/accuracy", 0.02)
    assert "/benchmark/tasks leaves it out" in error.detail
    assert not never_passed(CompressionSpec.model_validate(spec({**USUAL, "max_regression": {"parameters": 0}})))
