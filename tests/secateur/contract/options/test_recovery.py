"""Options of recoveries that cannot go together are refused when a job is submitted."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from secateur.contract.spec import CompressionSpec
from secateur.contract.validation_errors import field_errors

JOB: dict[str, Any] = {"model": {"source": "hub", "id": "a/b"}, "pruning": {"kind": "depth", "blocks": 1}}


@pytest.mark.parametrize(
    ("recovery", "field"),
    [
        ({"kind": "lora", "optimizer": "adamw_8bit"}, "optimizer"),
        ({"kind": "continued", "batch_size": 8, "micro_batch_size": 8}, "micro_batch_size"),
        ({"kind": "distill", "hidden_weight": 0.5}, "hidden_weight"),
    ],
)
def test_what_a_model_in_parts_cannot_have_is_refused(recovery: dict[str, Any], field: str) -> None:
    CompressionSpec.model_validate({**JOB, "recovery": recovery})
    with pytest.raises(ValidationError) as refused:
        CompressionSpec.model_validate({**JOB, "recovery": {**recovery, "shard": True}})
    (error,) = field_errors(CompressionSpec, refused.value.errors())
    assert (error.pointer, error.value) == (f"/recovery/{field}", recovery[field])
    assert error.expected
    left = {name: value for name, value in recovery.items() if name != field}
    CompressionSpec.model_validate({**JOB, "recovery": {**left, "shard": True}})
