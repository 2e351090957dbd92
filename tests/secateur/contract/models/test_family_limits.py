"""What is said of a family at submission."""

from __future__ import annotations

from typing import Any

import pytest

from secateur.contract.errors import UnsupportedModel
from secateur.contract.models.family_limits import check_family
from secateur.contract.spec import CompressionSpec

SPEC: dict[str, Any] = {
    "model": {"source": "local", "path": "m"},
    "pruning": {"kind": "depth", "drop": [1]},
    "quantise": [{"kind": "int8"}, {"kind": "gguf", "type": "Q8_0"}],
}


@pytest.mark.parametrize(
    ("recovery", "pointer"),
    [({"kind": "healing"}, "/recovery/kind"), ({"kind": "distill", "heal": True}, "/recovery/heal")],
)
def test_every_field_that_a_family_cannot_do_is_named(recovery: dict[str, Any], pointer: str) -> None:
    spec = CompressionSpec.model_validate({**SPEC, "recovery": recovery})
    with pytest.raises(UnsupportedModel) as caught:
        check_family(spec, {"model_type": "gemma2"})
    assert [error.pointer for error in caught.value.errors] == [pointer, "/quantise/1"]
    assert all(error.expected for error in caught.value.errors)
    check_family(spec, {"model_type": "llama"})
    check_family(spec, {})


def test_healing_that_was_not_asked_for_is_no_fault() -> None:
    check_family(CompressionSpec.model_validate({**SPEC, "quantise": []}), {"model_type": "gemma2"})
