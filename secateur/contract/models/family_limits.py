"""What a family of models cannot do, known from the `model_type` of its config alone: said when a job is submitted.

The check stage asks the engine itself, which knows every family; a family's row says that for which the answer never
depends on the rest of the config. A test holds both against each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secateur.contract.errors import FieldError, UnsupportedModel
from secateur.contract.models.families import model_types
from secateur.contract.shown import shortened
from secateur.contract.spec import CompressionSpec


def check_family(spec: CompressionSpec, config: Mapping[str, Any]) -> None:
    """Refuse what the family of this config cannot do.

    Raises:
        UnsupportedModel: names every field that asks for it.
    """
    family = config.get("model_type")
    written = model_types(written_as_gguf=True)
    errors = []
    if isinstance(family, str) and family not in written:
        detail = f"models of the type {shortened(family)} are not written as GGUF"
        errors += [
            FieldError(f"/quantise/{number}", detail, "gguf", f"a model of one of the types {', '.join(written)}")
            for number, way in enumerate(spec.quantise)
            if way.kind == "gguf"
        ]
    if errors:
        raise UnsupportedModel(errors[0].detail, errors=errors)
