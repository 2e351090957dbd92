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


def test_every_field_that_a_family_cannot_do_is_named() -> None:
    spec = CompressionSpec.model_validate(SPEC)
    with pytest.raises(UnsupportedModel) as caught:
        check_family(spec, {"model_type": "phi3"})
    assert [error.pointer for error in caught.value.errors] == ["/quantise/1"]
    assert all(error.expected for error in caught.value.errors)
    check_family(spec, {"model_type": "llama"})
    check_family(spec, {})
