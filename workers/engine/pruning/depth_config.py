"""The config of a model that lost blocks: the count, and everything in it that is told per block.

transformers derives much by a block's number: which blocks slide, which have no rotary embedding, which are
mixtures of experts. Dropping blocks shifts the numbers, so a periodic pattern or a bare switch would fall on the
wrong blocks. Each such pattern is written out as the list of the *kept* blocks' entries, in the form that the
config class reads, and the class must read the same list out of it.

Then the shorter model is built on the meta device and held against the original, block by block: whatever this page
does not know about shows there, and is refused rather than written wrong. Families with a row whose blocks are told
apart by such lists alone, or by nothing, are spared that: their model classes take more memory and time to import than
the copy of a small model. A test builds each of them with many patterns, to show that nothing else tells blocks apart.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import nn
from transformers import PretrainedConfig

from secateur.contract.errors import UnsupportedModel
from secateur.contract.models.architecture import Architecture
from workers.engine.architectures.config import as_config, layer_count, model_entries
from workers.engine.architectures.discovery import per_layer_lists, skeleton
from workers.engine.architectures.registry import has_row
from workers.engine.checkpoints.block_names import LAYER_COUNT_KEYS
from workers.engine.pruning.module_names import module_names, renumber_module_names

QUANTIZER_KEYS = ("quantization_config", "compression_config")
_PREDICTION_KEYS = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "mtp_num_layers", "num_mtp_layers")
_INDEX_LISTS = ("deepstack_visual_indexes", "full_attn_idxs", "mlp_only_layers", "moe_layers")
# "The first k blocks are of one kind, the rest of the other": k becomes the number of those k that are kept.
_PREFIX_COUNTS = ("first_k_dense_replace", "max_window_layers")
_STRINGS = ("hybrid_override_pattern",)  # one letter per block
# Patterns that the class turns into `layer_types` where that is absent; it never is here, and the pattern is stale.
_PERIODS = ("_sliding_window_pattern", "sliding_window_pattern")
# The entry makes a block depend on its number, or on other blocks, at run time; nothing on the meta device shows it.
_BY_NUMBER = {
    "scale_attn_by_inverse_layer_idx": "scales attention by the block's number",
    "num_kv_shared_layers": "shares keys and values between blocks",
    "hidden_size_per_layer_input": "gives each block an embedding of its own",
    "use_cla": "shares keys and values between blocks",
}
_NUMBERING = ("layer_idx", "layer_id", "layer_index", "layer_number", "block_idx")


def keep_blocks(
    config: Mapping[str, Any], keep: Sequence[int], architecture: Architecture, *, tensors: Collection[str] = ()
) -> dict[str, Any]:
    """`config.json` of the model that keeps the blocks `keep`, ascending, and no others.

    Args:
        tensors: of the checkpoint, by name; what a quantiser's rules are matched against.

    Raises:
        UnsupportedModel: a kept block would work differently under its new number.
    """
    loaded = as_config(dict(config))
    count = layer_count(loaded)
    full = loaded.to_dict()
    for key, what in _BY_NUMBER.items():
        if full.get(key):
            raise UnsupportedModel(f"The model {what} ({key}), so no block can be dropped without changing the others.")
    numbers = {old: new for new, old in enumerate(keep)}
    result = copy.deepcopy(model_entries(config))
    names = per_layer_lists(full, count, extra=architecture.per_layer_lists)
    kept_lists = {name: [full[name][old] for old in keep] for name in names}
    result.update(kept_lists)
    if "attention_layers" in kept_lists:  # GPT-Neo's class reads the list in this run-length form only
        result["attention_types"] = [[[kind], 1] for kind in kept_lists["attention_layers"]]
    if "layer_types" in kept_lists:
        for key in _PERIODS:
            result.pop(key, None)
    for key in {*_INDEX_LISTS, *architecture.layer_index_lists}:
        value = full.get(key)
        if isinstance(value, list):
            result[key] = [numbers[old] for old in value if old in numbers]
    for key in _PREFIX_COUNTS:
        limit = result.get(key)
        if type(limit) is int:
            result[key] = sum(old < limit for old in keep)
    for key in _STRINGS:
        text = result.get(key)
        if isinstance(text, str) and len(text) == count:
            result[key] = "".join(text[old] for old in keep)
    _write_out_sparse_step(full, result, numbers, count)
    for key in _PREDICTION_KEYS:
        if key in result:
            result[key] = 0
    for key in {architecture.layer_count_key, *LAYER_COUNT_KEYS}:
        if result.get(key) == count or key == architecture.layer_count_key:
            result[key] = len(keep)
    for key in QUANTIZER_KEYS:
        if key in result:
            result[key] = renumber_module_names(result[key], module_names(tensors, architecture.disk_prefixes, numbers))

    shorter = as_config(result)
    rebuilt = shorter.to_dict()
    for name, entries in kept_lists.items():
        if list(rebuilt.get(name) or []) != entries:
            raise UnsupportedModel(f"transformers derives {name} from the blocks' numbers and ignores the list.")
    if not _told_apart_by(kept_lists, architecture):
        _check_blocks(loaded, shorter, keep, architecture)
    return result


def _told_apart_by(lists: Mapping[str, Any], architecture: Architecture) -> bool:
    """Whether the entries of `lists` are all that tells one block of this model from another, if anything does.

    A pattern that the class derives from a number stands in its list; of a list of block numbers there may be more.
    """
    patterns_written = bool(lists) or not architecture.pattern_keys
    return has_row(architecture) and patterns_written and not architecture.layer_index_lists


def _write_out_sparse_step(
    full: Mapping[str, Any], result: dict[str, Any], numbers: Mapping[int, int], count: int
) -> None:
    """Every `decoder_sparse_step`-th block is a mixture of experts: name the blocks that are not, and have no step."""
    step = full.get("decoder_sparse_step")
    if type(step) is not int or step <= 1:
        return
    dense = {old for old in range(count) if (old + 1) % step} | set(full.get("mlp_only_layers") or [])
    result["decoder_sparse_step"] = 1
    result["mlp_only_layers"] = sorted(numbers[old] for old in dense if old in numbers)


def _check_blocks(
    before: PretrainedConfig, after: PretrainedConfig, keep: Sequence[int], architecture: Architecture
) -> None:
    """Build both models without weights, and compare each kept block with what it was."""
    old, new = portraits(before, architecture), portraits(after, architecture)
    for position, number in enumerate(keep):
        was, becomes = old[number], new[position]
        if was != becomes:
            key = next(key for key in sorted(was.keys() | becomes.keys()) if was.get(key) != becomes.get(key))
            raise UnsupportedModel(
                f"Block {number} would work differently as block {position}: its {key} is {was.get(key)} "
                f"and would be {becomes.get(key)}, because transformers derives it from the block's number."
            )


def portraits(config: PretrainedConfig, architecture: Architecture) -> list[dict[str, Any]]:
    """What tells the blocks of the model apart, block by block, from the model built without weights."""
    return [_portrait(block) for block in skeleton(config).get_submodule(architecture.blocks_prefix).children()]


def _portrait(block: nn.Module) -> dict[str, Any]:
    """What tells one block from another: parameters, buffers, classes and simple settings of its modules."""
    portrait: dict[str, Any] = {name: tuple(tensor.shape) for name, tensor in block.state_dict(keep_vars=True).items()}
    for name, module in block.named_modules():
        portrait[f"{name}()"] = type(module).__name__
        for key, value in vars(module).items():
            if isinstance(value, str | int | float | tuple) and not key.startswith("_") and key not in _NUMBERING:
                portrait[f"{name}.{key}".lstrip(".")] = value
    return portrait
