"""What a spec that heals must have: a cut with a block before it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from secateur.contract.spec import CompressionSpec

SPEC: dict[str, Any] = {"model": {"source": "local", "path": "m"}}


@pytest.mark.parametrize("recovery", [{"kind": "healing"}, {"kind": "lora", "heal": True}])
@pytest.mark.parametrize("drop", [[0], [1, 0, 2]])
def test_a_cut_at_the_beginning_alone_cannot_be_healed(recovery: dict[str, Any], drop: list[int]) -> None:
    spec = {**SPEC, "recovery": recovery, "pruning": {"kind": "depth", "drop": drop}}
    with pytest.raises(ValidationError, match=f"before the first {len(drop)} blocks there is none") as caught:
        CompressionSpec.model_validate(spec)
    (error,) = caught.value.errors()
    assert error["ctx"]["field"] == "recovery"


@pytest.mark.parametrize("drop", [[1], [0, 2], [5, 6]])
def test_any_other_cut_can(drop: list[int]) -> None:
    spec = {**SPEC, "recovery": {"kind": "healing"}, "pruning": {"kind": "depth", "drop": drop}}
    assert CompressionSpec.model_validate(spec).recovery.kind == "healing"


def test_healing_that_was_not_asked_for_is_left_out() -> None:
    spec = {**SPEC, "recovery": {"kind": "distill"}, "pruning": {"kind": "depth", "drop": [0]}}
    assert CompressionSpec.model_validate(spec).recovery.kind == "distill"


@pytest.mark.parametrize("neurons", [-0.1, 1.5, "many", float("nan"), None])
def test_the_share_of_neurons_is_between_none_and_all(neurons: object) -> None:
    spec = {**SPEC, "recovery": {"kind": "healing", "neurons": neurons}, "pruning": {"kind": "depth", "drop": [1]}}
    with pytest.raises(ValidationError) as caught:
        CompressionSpec.model_validate(spec)
    (error,) = caught.value.errors()
    assert error["loc"][-1] == "neurons"
