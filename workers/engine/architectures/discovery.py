"""A row for a family that has none: found from the structure of a skeleton on the meta device.

The skeleton has every module and no weights, so it costs milliseconds whatever the model's size. The family's classes
must be imported for it, which takes more memory than pruning does, so that is left until they are needed. Blocks are
the one list of modules as long as the config's layer count; attention is the block's child that has the token mixer's
name, the MLP the other child with weights of two dimensions.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from transformers import AutoConfig, PretrainedConfig

from secateur.contract.errors import BadCheckpoint
from secateur.contract.models.architecture import Architecture, Quirk
from workers.engine.architectures.config import layer_count, unsupported
from workers.engine.architectures.culprit import entry_to_blame
from workers.engine.blame import words_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Lists that are per layer wherever they occur and have the right length.
_PER_LAYER_NAMES = frozenset(
    {
        "attention_layers",
        "layer_types",
        "mlp_layer_types",
        "no_rope_layers",
    }
)
_INDEX_LISTS = ("mlp_only_layers", "full_attention_layers")
_PATTERNS = (
    "sliding_window_pattern",
    "max_window_layers",
    "decoder_sparse_step",
    "no_rope_layer_interval",
    "first_k_dense_replace",
    "moe_layer_freq",
)
_RECURRENT = re.compile(r"Mamba|SSM|Rwkv|RWKV|xLSTM|Recurrent|DeltaNet|LinearAttention|LightningAttention")
_ATTENTION = re.compile(r"attn|attention", re.I)
_NORM = re.compile(r"norm|^ln_", re.I)


def skeleton(config: PretrainedConfig) -> PreTrainedModel:
    """The model of `config` on the meta device: modules and shapes, no weights.

    It is built without quantisation, whose packages need not be here to know the shapes.

    Raises:
        BadCheckpoint: the config's values do not build a model of its family.
    """
    try:
        return _built(config)
    except Exception as error:  # whatever a family's constructor raises on values that do not fit together
        raise not_a_model(config, f"config.json does not build a {config.model_type} model", error, _built) from error


def _built(config: PretrainedConfig) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    plain = copy.deepcopy(config)
    if hasattr(plain, "quantization_config"):
        del plain.quantization_config
    with no_init_weights(), torch.device("meta"):  # drawing random numbers for no memory is half the time
        # the auto classes carry no annotations
        model = cast("PreTrainedModel", AutoModelForCausalLM.from_config(plain))  # type: ignore[no-untyped-call]
        model.tie_weights()  # which is left out together with the random numbers
        return model


def not_a_model(
    config: PretrainedConfig, what: str, error: Exception, works: Callable[[PretrainedConfig], Any]
) -> BadCheckpoint:
    """The error for a config that its own class takes and its model does not, with the entry that is to blame.

    Args:
        what: what the config does not do, as the start of a sentence.
        error: what the model raised.
        works: raises likewise where a config without the entry does not do it either.
    """
    entries = {key: value for key, value in config.to_diff_dict().items() if key != "model_type"}
    key = entry_to_blame(entries, lambda left: works(AutoConfig.for_model(config.model_type, **copy.deepcopy(left))))
    which = "" if key is None else f", by its entry {key}"
    return BadCheckpoint.field(
        "model",
        f"{what}{which}: {words_of(error)}",
        value=config.model_type if key is None else entries[key],
        expected="sizes and settings that fit together",
    )


def per_layer_lists(config: Mapping[str, Any], n_blocks: int, *, extra: Iterable[str] = ()) -> tuple[str, ...]:
    """Names of the entries of `config` that hold one value for each of its `n_blocks` blocks."""
    names = _PER_LAYER_NAMES | set(extra)
    return tuple(
        sorted(
            name
            for name, value in config.items()
            if name in names and isinstance(value, list | tuple) and len(value) == n_blocks
        )
    )


def discover(config: PretrainedConfig) -> Architecture:
    """The row of `config`'s family, from its skeleton.

    Raises:
        UnsupportedModel: there is no single stack of blocks, or a block has no softmax attention.
    """
    model_type = config.model_type
    model = skeleton(config)
    n_blocks = layer_count(config)
    prefix, blocks = find_blocks(model, n_blocks)
    _refuse_recurrent(blocks, model_type)
    attention, mlp = _halves(blocks[0], model_type)
    written = config.to_dict()
    head: nn.Module | None = model.get_output_embeddings()  # type: ignore[no-untyped-call]  # no annotations
    base = model.base_model_prefix
    parent = prefix.rpartition(".")[0]
    quirks: set[Quirk] = set()
    if any("expert" in name for name, _ in blocks.named_parameters()):
        quirks.add("moe")
    if "Conv1D" in {type(module).__name__ for module in blocks.modules()}:
        quirks.add("conv1d")
    if any("post_feedforward" in name for name, _ in blocks[0].named_children()):
        quirks.add("norm_after")
    embeddings = _embeddings(model, prefix)
    if len(embeddings) > 1:
        quirks.add("learned_positions")
    return Architecture(
        family=model_type,
        model_types=(model_type,),
        blocks_prefix=prefix,
        base_prefix=base,
        embeddings=embeddings,
        final_norm=_final_norm(model, parent),
        head=_path_of(model, head) if head is not None else "lm_head",
        layer_count_key=config.attribute_map.get("num_hidden_layers", "num_hidden_layers"),
        per_layer_lists=tuple(
            sorted({*per_layer_lists(written, n_blocks), *_lists_that_follow(config, written, n_blocks)})
        ),
        layer_index_lists=tuple(name for name in _INDEX_LISTS if written.get(name) is not None),
        pattern_keys=tuple(name for name in _PATTERNS if written.get(name) is not None),
        attention=attention,
        mlp=mlp,
        quirks=frozenset(quirks),
        **_projections(blocks[0], attention, mlp, quirks),
    )


def find_blocks(model: nn.Module, n_blocks: int) -> tuple[str, nn.ModuleList]:
    """Path and list of the blocks: the outermost ModuleList of `n_blocks` modules of one class.

    Raises:
        UnsupportedModel: there is none, or more than one.
    """
    found: list[tuple[str, nn.ModuleList]] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == n_blocks:
            nested = any(name.startswith(outer + ".") for outer, _ in found)
            if not nested and any(True for _ in module.parameters()):
                found.append((name, module))
    if len(found) != 1:
        config = getattr(model, "config", None)
        raise unsupported(
            f"The model has {len(found)} lists of {n_blocks} layers; exactly one stack of blocks is expected.",
            model_type=getattr(config, "model_type", None),
        )
    return found[0]


def _refuse_recurrent(blocks: nn.ModuleList, model_type: str) -> None:
    for name, module in blocks.named_modules():
        if _RECURRENT.search(type(module).__name__) or isinstance(module, nn.Conv1d):
            raise unsupported(
                f'A model of type "{model_type}" is a state-space or recurrent model, wholly or in part: block '
                f"{name.split('.')[0]} has a {type(module).__name__}.",
                model_type=model_type,
            )


def _halves(block: nn.Module, model_type: str) -> tuple[str, str]:
    """Names of the attention and of the MLP among the block's children; "" for an MLP without a module."""
    children = {name: child for name, child in block.named_children() if any(p.dim() >= 2 for p in child.parameters())}
    attention = [name for name, child in children.items() if _ATTENTION.search(name + type(child).__name__)]
    if len(attention) != 1:
        raise unsupported(
            f'A block of a "{model_type}" model has {len(attention)} attention modules; one is expected.',
            model_type=model_type,
        )
    others = [name for name in children if name not in attention]
    return attention[0], others[0] if len(others) == 1 else ""


def _projections(block: nn.Module, attention: str, mlp: str, quirks: set[Quirk]) -> dict[str, Any]:
    """Projections by their usual names, None where there is none; notes fused ones in `quirks`."""

    def first(module: nn.Module, *names: str) -> str | None:
        have = {name for name, _ in module.named_children()}
        return next((name for name in names if name in have), None)

    mixer = block.get_submodule(attention)
    feed = block.get_submodule(mlp) if mlp else block
    rows: dict[str, Any] = {
        "query": first(mixer, "q_proj", "query", "q"),
        "key": first(mixer, "k_proj", "key", "k"),
        "value": first(mixer, "v_proj", "value", "v"),
        "fused_qkv": first(mixer, "qkv_proj", "query_key_value", "c_attn", "Wqkv", "qkv"),
        "attention_output": first(mixer, "o_proj", "out_proj", "dense", "c_proj"),
        "gate": first(feed, "gate_proj", "w1"),
        "up": first(feed, "up_proj", "w3", "fc1", "c_fc", "fc_in", "dense_h_to_4h"),
        "fused_gate_up": first(feed, "gate_up_proj"),
        "down": first(feed, "down_proj", "w2", "fc2", "c_proj", "fc_out", "dense_4h_to_h"),
    }
    if rows["fused_qkv"]:
        quirks.add("fused_qkv")
    if rows["fused_gate_up"]:
        quirks.add("fused_gate_up")
    for name in ("attention_output", "down"):
        rows[name] = rows[name] or ""  # "" says that the projection was not found by name
    return rows


def _embeddings(model: PreTrainedModel, blocks_prefix: str) -> tuple[str, ...]:
    token = _path_of(model, model.get_input_embeddings())
    others = (
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) and name != token and not name.startswith(blocks_prefix + ".")
    )
    found = (token, *others)
    if any("per_layer" in name for name in found):
        raise unsupported(
            f'The blocks of a "{model.config.model_type}" model read the tokens beside the hidden state.',
            model_type=model.config.model_type,
        )
    return found


def _final_norm(model: nn.Module, parent: str) -> str | None:
    """The last norm beside the blocks; a norm of the embeddings stands before it."""
    beside = [
        f"{parent}.{name}" if parent else name
        for name, child in model.get_submodule(parent).named_children()
        if _NORM.search(name + type(child).__name__) and not isinstance(child, nn.ModuleList)
    ]
    return beside[-1] if beside else None


def _path_of(model: nn.Module, wanted: nn.Module | None) -> str:
    return next((name for name, module in model.named_modules() if module is wanted), "")


def _lists_that_follow(config: PretrainedConfig, written: Mapping[str, Any], n_blocks: int) -> tuple[str, ...]:
    """Lists whose length the config class itself derives from the number of layers.

    Two fresh configs with other layer counts tell them from lists that have the right length by chance.
    """
    probes: list[tuple[int, Mapping[str, Any]]] = []
    for count in (n_blocks + 1, n_blocks + 3):
        try:
            probes.append((count, cast(Any, type(config))(num_hidden_layers=count).to_dict()))
        except Exception:  # the class wants more than a layer count: its lists cannot be told this way
            return ()
    return tuple(
        name
        for name, value in written.items()
        if isinstance(value, list)
        and len(value) == n_blocks
        and all(isinstance(probe.get(name), list) and len(probe[name]) == n for n, probe in probes)
    )
