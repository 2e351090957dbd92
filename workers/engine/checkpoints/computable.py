"""Whether this machine can compute with a checkpoint as it is stored.

Quantised weights need the quantiser's own kernels. transformers knows what each method needs, so it is asked.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from secateur.contract.errors import BadCheckpoint, FieldError, UnsupportedModel
from secateur.contract.models.quantised import quantised_by
from workers.engine.blame import blamed_on, words_of


def check_quantiser_settings(config: Mapping[str, Any]) -> None:
    """Read the settings of the quantiser as its loader will.

    Raises:
        BadCheckpoint: one of them is missing, or cannot be used.
    """
    settings = config.get("quantization_config")
    if settings is None:
        return
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING, AutoQuantizationConfig

    method = quantised_by(config)
    kind = AUTO_QUANTIZATION_CONFIG_MAPPING.get(str(method))
    asked = inspect.signature(kind).parameters.values() if kind else ()
    missing = [one.name for one in asked if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD]
    for name in missing:
        if name not in settings:
            raise BadCheckpoint.field(
                "model",
                f"config.json: `quantization_config` has no `{name}`, which {method} needs.",
                value=settings,
                expected=f"`{name}`, as {method} writes it",
            )
    what = f"config.json: `quantization_config` is none that {method} writes"
    with blamed_on(
        "model", what, value=method, expected="the settings as the quantiser wrote them", kind=BadCheckpoint
    ):
        try:
            AutoQuantizationConfig.from_dict(dict(settings))
        except ImportError:  # some look for their package here already, which says nothing of the settings
            return


def why_not_computable(config: Mapping[str, Any]) -> str | None:
    """Why the model with this config.json cannot run here, as a sentence without its full stop; None where it can."""
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
        words = words_of(error).rstrip(".")
        return f"The checkpoint is quantised ({method}), and this worker cannot compute with it: {words}"
    return None


def refuse_uncomputable(config: Mapping[str, Any], *, expected: str) -> None:
    """Raise UnsupportedModel, over the `weights`, if the model with this config.json cannot run here."""
    reason = why_not_computable(config)
    if reason is not None:
        raise UnsupportedModel(reason, errors=[FieldError("weights", reason, quantised_by(config), expected)])
