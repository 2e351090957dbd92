"""Whether the tensors of a checkpoint are those that its config asks for: each there once, none beyond, shapes alike.

transformers draws at random what is missing, passes over what is beyond, and ends at a shape that differs with an error
of its own; depth pruning copies all three. So the headers are held against the model on the meta device before any
weight is read. Of a quantised checkpoint the parts that its quantiser stores in place of a weight are not looked into.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Iterable
from typing import NoReturn

import torch
from transformers import PreTrainedModel

from secateur.contract.errors import BadCheckpoint
from secateur.contract.models.quantised import check_quantiser, quantised_by
from secateur.foreign_files.json_objects import quoted
from workers.engine.architectures.config import as_config
from workers.engine.architectures.discovery import not_a_model, skeleton
from workers.engine.architectures.registry import architecture_of
from workers.engine.checkpoints.block_names import block_of, is_beside_language
from workers.engine.checkpoints.check_rotary import check_rotary
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.names_on_disk import Recipe, recipes_of, renamed, shapes_of

# the quantisers that leave no matrix of a block as plain numbers
_PACKING = frozenset(
    {"aqlm", "auto-round", "awq", "bitsandbytes", "eetq", "fbgemm_fp8", "fp8", "gptq", "mxfp4", "mxfp8", "spqr", "vptq"}
)
# Where these quantisers store packed values under the first name, their scales stand beside under one like the second.
_SCALED = (
    (re.compile(r"(^|\.)weight$"), "weight_scale"),
    (re.compile(r"(^|\.)weight_packed$"), "weight_scale"),
    (re.compile(r"(^|\.)qweight$"), "scales"),
    (re.compile(r"_blocks$"), "_scales"),
)
_SCALING = frozenset({"awq", "compressed-tensors", "fbgemm_fp8", "fp8", "gptq", "mxfp4"})
_WHOLE = frozenset({"F64", "F32", "F16", "BF16"})  # of a quantised checkpoint: what is stored in these is not packed
# what a parameter that no quantiser has made may be stored in: of whole numbers the scale would be lost
_NUMBERS = frozenset({*_WHOLE, "F8_E4M3", "F8_E4M3FNUZ", "F8_E5M2", "F8_E5M2FNUZ"})
_ROTARY = r"(^|\.)rotary_emb\.(inv_freq|cos_cached|sin_cached)$"
_MASK = re.compile(r"(^|\.)(attn|attention|self_attention)\.(bias|masked_bias)$")  # GPT-2's and GPT-NeoX's, once
_SHOWN = 5
# How torch begins to say that shapes do not go together, which they do with weights as little as without.
_SHAPES = (
    "must match",
    "is invalid for input of size",
    "must have same reduction dim",
    "Attempting to broadcast",
    "Expected size for",
    "expected input with shape",
    "to sum exactly",
)


def check_fit(checkpoint: Checkpoint) -> None:
    """Hold every tensor of the checkpoint against the model that its config describes, and see that it runs.

    Raises:
        BadCheckpoint: a tensor is missing, stands twice, is unknown to the model or has another shape; or the config's
            values do not go together.
        UnsupportedModel: as `architecture_of`.
    """
    check_quantiser(checkpoint.config, pointer="model")
    architecture = architecture_of(checkpoint.config)
    config = as_config(checkpoint.config)
    model = skeleton(config)
    shapes = shapes_of(model)
    recipes = recipes_of(checkpoint, model, shapes)
    quantised = quantised_by(checkpoint.config) is not None
    _check_packed(checkpoint)
    for recipe in recipes:
        _check_recipe(checkpoint, recipe, shapes, quantised=quantised)
    if not quantised:
        _check_dtypes(checkpoint, recipes, {name for name, _ in model.named_parameters(remove_duplicate=False)})
    made = {name for recipe in recipes for name in recipe.targets()}
    names = renamed(checkpoint.names(), model, shapes)
    if quantised:
        made |= _packed(model, {target for target, _ in names.values()})
    shared: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        shared.setdefault(id(parameter), []).append(name)
    missing = [group[0] for group in shared.values() if not made & set(group)]
    if missing:
        _refuse(
            f"The checkpoint lacks {_some(missing)}, which config.json asks for.",
            missing,
            "a tensor for every parameter of the model",
        )
    unknown = [
        name
        for name, (target, _) in names.items()
        if target not in shapes
        and not quantised
        and not _is_no_weight(checkpoint, model, name, target)
        and not _is_behind(target, f"{architecture.blocks_prefix}.", int(config.num_hidden_layers))
    ]
    if unknown:
        _refuse(
            f"The checkpoint has {_some(unknown)}, which the {config.model_type} model of config.json does not have.",
            unknown,
            "a config.json that describes all tensors of the checkpoint",
        )
    try:
        _run(model)
    except Exception as error:
        what = f"A {config.model_type} model with this config.json cannot be run"
        raise not_a_model(config, what, error, lambda changed: _run(skeleton(changed))) from error
    check_rotary(model)


def _check_packed(checkpoint: Checkpoint) -> None:
    """A quantiser that the config names must have been at work, or its loader makes up what it does not find."""
    method = quantised_by(checkpoint.config)
    settings = checkpoint.config.get("quantization_config") or {}
    packs = method in _PACKING or (
        method == "compressed-tensors"
        and settings.get("quantization_status") == "compressed"
        and str(settings.get("format")).endswith("-quantized")
    )
    if packs and all(checkpoint.dtype(name) in _WHOLE for name in checkpoint.names()):
        raise BadCheckpoint.field(
            "model",
            f"config.json says that the weights are quantised ({method}), and all tensors are stored as plain numbers.",
            value=method,
            expected=f"weights as {method} stores them, or a config.json without `quantization_config`",
        )
    if method in _SCALING:
        _check_scales(checkpoint, method)


def _check_scales(checkpoint: Checkpoint, method: str) -> None:
    """Packed values without their scales are other weights, and loaders take them as they are."""
    names = sorted(checkpoint.names())
    for name in names:
        if checkpoint.dtype(name) in _WHOLE:
            continue
        for packed, scales in _SCALED:
            found = packed.search(name)
            if found is None:
                continue
            start = name[: found.start()] + "." * found[0].startswith(".") + scales
            at = bisect_left(names, start)
            if at == len(names) or not names[at].startswith(start):
                _refuse(
                    f"The tensor {quoted(name)} is packed by {method}, and its scales, {quoted(start)}, are missing.",
                    name,
                    f"weights as {method} stores them, scales and all",
                )


def _check_dtypes(checkpoint: Checkpoint, recipes: Iterable[Recipe], parameters: set[str]) -> None:
    """Weights in whole numbers are a quantiser's, and transformers takes them at their word where none is named."""
    for recipe in recipes:
        for _, name in recipe.sources if recipe.target in parameters else ():
            if (dtype := checkpoint.dtype(name)) not in _NUMBERS:
                _refuse(
                    f"The tensor {quoted(name)} is stored as {dtype}, and config.json names no quantiser.",
                    dtype,
                    "weights in floating point, or the `quantization_config` of what made them whole numbers",
                )


def _run(model: PreTrainedModel) -> None:
    """Run the model without weights on three tokens, as far as that goes: settings of a wrong kind show."""
    ids = torch.zeros((1, 3), dtype=torch.long, device="meta")
    try:
        with torch.no_grad():
            model.train(False)(input_ids=ids)
    except RuntimeError as error:
        if any(words in str(error) for words in _SHAPES):
            raise
        return  # it looks at a value, and there are none


def _check_recipe(
    checkpoint: Checkpoint, recipe: Recipe, shapes: dict[str, tuple[int, ...]], *, quantised: bool
) -> None:
    sources = [name for _, name in recipe.sources]
    if quantised and any(checkpoint.dtype(name) not in _WHOLE for name in sources):
        return
    if recipe.converter is not None:
        asked = sum(math.prod(shapes[name]) for name in recipe.targets() if name in shapes)
        held = sum(math.prod(checkpoint.shape(name)) for name in sources)
        if asked != held:
            _refuse(
                f"{_some(sources)} hold {held} numbers together, and config.json asks for {asked} in {recipe.target}.",
                held,
                f"{asked} numbers",
            )
        return
    if len(sources) > 1:
        _refuse(f"{_some(sources)} are the same parameter of the model.", sources, "one tensor for each parameter")
    asked_shape, held_shape = list(shapes[recipe.target]), list(checkpoint.shape(sources[0]))
    if asked_shape != held_shape:
        _refuse(
            f"The tensor {quoted(sources[0])} has the shape {held_shape}, and config.json asks for {asked_shape}.",
            held_shape,
            f"the shape {asked_shape}",
        )


def _packed(model: PreTrainedModel, targets: set[str]) -> set[str]:
    """Parameters in whose place a quantiser has stored tensors of other names: parts of the same module, or of it."""
    owners = {target.rpartition(".")[0] for target in targets}
    return {
        name
        for name, _ in model.named_parameters(remove_duplicate=False)
        if name.rpartition(".")[0] in owners or any(target.startswith(f"{name}_") for target in targets)
    }


def _is_no_weight(checkpoint: Checkpoint, model: PreTrainedModel, name: str, target: str) -> bool:
    """Whether the tensor is a buffer of an older version, or what the family's class or this engine leaves aside."""
    ignored = (_ROTARY, *(model._keys_to_ignore_on_load_unexpected or ()))
    if any(re.search(pattern, text) for pattern in ignored for text in (name, target)):
        return True
    is_mask = _MASK.search(name) is not None and len(checkpoint.shape(name)) != 1  # a bias has one dimension
    return is_mask or is_beside_language(name)


def _is_behind(target: str, prefix: str, blocks: int) -> bool:
    """Whether the tensor is of a multi-token-prediction layer, stored behind the blocks."""
    block = block_of(target, prefix)
    return block is not None and block >= blocks


def _some(names: Iterable[str]) -> str:
    found = list(names)
    listed = ", ".join(quoted(name) for name in found[:_SHOWN])
    return (
        f"the tensor {listed}" if len(found) == 1 else f"{len(found)} tensors ({listed}{' …' * (len(found) > _SHOWN)})"
    )


def _refuse(detail: str, value: object, expected: str) -> NoReturn:
    shortened = value[:_SHOWN] if isinstance(value, list) else value
    raise BadCheckpoint.field("model", detail[0].upper() + detail[1:], value=shortened, expected=expected)
