"""Whether this machine can compute with a checkpoint as it is stored.

Quantised weights need the quantiser's own kernels. transformers knows what each method needs, so it is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secateur.contract.errors import FieldError, UnsupportedModel
from secateur.contract.models.quantised import quantised_by

NO_SCORING = 'a model that this worker can compute with, or blocks by name, `"drop": [21, 22]`, which need no scoring'


def why_not_computable(config: Mapping[str, Any]) -> str | None:
    """Why the model with this config.json cannot run here, as a sentence; None where it can."""
    method = quantised_by(config)
    if method is None:
        return None
    from transformers.quantizers.auto import (
        AutoHfQuantizer,  # brings every quantiser along, and few checkpoints have one
    )

    try:
        quantiser: Any = AutoHfQuantizer.from_config(config.get("quantization_config") or {}, pre_quantized=True)
        quantiser.validate_environment(device_map=None)
    except Exception as error:  # each method has its own way to miss something
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return f"The checkpoint is quantised ({method}), and this worker cannot compute with it: {lines[0][:300]}"
    return None


def refuse_uncomputable(config: Mapping[str, Any], *, expected: str) -> None:
    """Raise UnsupportedModel, over the `weights`, if the model with this config.json cannot run here."""
    reason = why_not_computable(config)
    if reason is not None:
        raise UnsupportedModel(reason, errors=[FieldError("weights", reason, quantised_by(config), expected)])
