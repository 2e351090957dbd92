"""What a job may ask of a checkpoint that is quantised already: GPTQ, AWQ, bitsandbytes, compressed-tensors and others.

Whole blocks can go, and so can halves of blocks, since their tensors are left out as they are. Everything that writes
other values into the weights cannot: they are stored in a form that only the quantiser makes. Whether such a model can
be scored and measured depends on the kernels of the machine, so the stages say that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secateur.contract.errors import FieldError, UnsupportedModel
from secateur.contract.options.pruning.depth import DepthPruning
from secateur.contract.options.pruning.sub_block import SubBlockPruning
from secateur.contract.spec import CompressionSpec


def quantised_by(config: Mapping[str, Any]) -> str | None:
    """The method by which the checkpoint with this config.json was quantised, or None where it was not."""
    settings = config.get("quantization_config") or config.get("compression_config")
    if not isinstance(settings, Mapping):
        return None
    return str(settings.get("quant_method") or "unknown method")


def check_quantised(spec: CompressionSpec, config: Mapping[str, Any]) -> None:
    """Refuse what no machine can do to a quantised checkpoint.

    Raises:
        UnsupportedModel: names every field that asks for it.
    """
    method = quantised_by(config)
    if method is None:
        return
    errors = []
    if not isinstance(spec.pruning, DepthPruning | SubBlockPruning):
        detail = (
            f"the checkpoint is quantised ({method}), and only whole blocks and whole halves of blocks of such a model "
            "can be removed"
        )
        expected = "depth or sub_block, or a model that is not quantised"
        errors.append(FieldError("/pruning/kind", detail, spec.pruning.kind, expected))
    if spec.recovery.kind != "none":
        detail = f"the checkpoint is quantised ({method}), and its weights cannot be trained"
        errors.append(
            FieldError("/recovery/kind", detail, spec.recovery.kind, '"none", or a model that is not quantised')
        )
    if spec.quantise:
        detail = f"the checkpoint is quantised already ({method})"
        errors.append(
            FieldError("/quantise", detail, len(spec.quantise), "no `quantise`, or a model that is not quantised")
        )
    if errors:
        raise UnsupportedModel(errors[0].detail, errors=errors)
