"""What a job may ask of a checkpoint that is quantised already: GPTQ, AWQ, bitsandbytes, compressed-tensors and others.

Whole blocks can go, and so can halves of blocks, since their tensors are left out as they are. Everything that writes
other values into the weights cannot: they are stored in a form that only the quantiser makes. Whether such a model can
be scored and measured depends on the kernels of the machine, so the stages say that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secateur.contract.errors import BadCheckpoint, FieldError, UnsupportedModel
from secateur.contract.options.joint import JointPruning
from secateur.contract.options.pruning import DepthPruning, SubBlockPruning
from secateur.contract.shown import shortened
from secateur.contract.spec import CompressionSpec

# The methods that transformers 5.24 knows, by the name that stands in a config.json. It takes weights of any other as
# plain ones, without an error.
METHODS = (
    *("aqlm", "auto-round", "awq", "bitnet", "bitsandbytes", "compressed-tensors", "eetq", "fbgemm_fp8", "fouroversix"),
    *("fp8", "fp_quant", "gemma", "gguf", "gptq", "higgs", "hqq", "metal", "mxfp4", "mxfp8", "nvfp4", "quanto"),
    *("quark", "sinq", "spqr", "torchao", "vptq"),
)
_WIDTHS = ("load_in_4bit", "load_in_8bit")


def check_quantiser(config: Mapping[str, Any], *, pointer: str) -> None:
    """Refuse a config.json whose quantiser no machine can follow.

    Args:
        pointer: of the field that the config came from.

    Raises:
        BadCheckpoint: its `quantization_config` is none.
        UnsupportedModel: its method is unknown.
    """
    settings = config.get("quantization_config")
    if settings is None:
        return
    entry = "config.json: `quantization_config`"
    if not isinstance(settings, Mapping):
        raise BadCheckpoint.field(pointer, f"{entry} is no JSON object.", value=settings, expected="a JSON object")
    method, expected = settings.get("quant_method"), f"a `quant_method`: one of {', '.join(METHODS)}"
    if any(settings.get(width) for width in _WIDTHS):
        return
    if method is None:
        raise BadCheckpoint.field(pointer, f"{entry} names no `quant_method`.", value=dict(settings), expected=expected)
    if method not in METHODS:
        detail = f"{entry} names the method {shortened(str(method))!r}, which transformers does not know."
        raise UnsupportedModel.field(pointer, detail, value=method, expected=expected)
    if method == "bitsandbytes":
        detail = f"{entry} is of bitsandbytes and does not say how many bits a weight has."
        raise BadCheckpoint.field(
            pointer, detail, value=dict(settings), expected="`load_in_4bit` or `load_in_8bit`, with the value true"
        )


def quantised_by(config: Mapping[str, Any]) -> str | None:
    """The method by which the checkpoint with this config.json was quantised, or None where it was not."""
    settings = config.get("quantization_config") or config.get("compression_config")
    if not isinstance(settings, Mapping):
        return None
    if any(settings.get(width) for width in _WIDTHS):  # transformers asks for these first
        return "bitsandbytes"
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
    if not isinstance(spec.pruning, DepthPruning | SubBlockPruning | JointPruning):
        detail = (
            f"the checkpoint is quantised ({method}), and only whole blocks and whole halves of blocks of such a model "
            "can be removed"
        )
        expected = "depth, sub_block or joint, or a model that is not quantised"
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
