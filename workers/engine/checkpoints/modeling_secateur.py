"""Loads a checkpoint that Secateur pruned to a form that no config can say.

That is: to widths which differ from block to block, or by halves of blocks, some of which have lost their attention
or their MLP.

Usage, with this file on the path:

    from modeling_secateur import load
    model = load("path/to/checkpoint")

A Llama-shaped model that lost attentions or MLPs has the config of DeciLM's family, which vLLM runs; there, and in
transformers, `trust_remote_code=True` lets the classes at the end of this file be found:

    model = AutoModelForCausalLM.from_pretrained("path/to/checkpoint", trust_remote_code=True)

It needs torch and transformers and nothing else. The model is one of transformers' own classes in which some blocks
were built narrower, by the same classes, or lost a half, before the weights are loaded; so generation, the key-value
cache, quantisation and device maps work as they do for the original, and no code of the checkpoint runs but this file,
which you can read. Arguments beyond the path go to `from_pretrained`.

A block without its attention still tells the cache how many tokens have passed, with one number in place of each
token's keys and values: transformers reads the length of the context, and with it positions and masks, off whichever
layer of the cache comes first.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, Cache, LlamaConfig, LlamaForCausalLM, PreTrainedModel

SECTION = "secateur"  # the entry of config.json that says what was pruned, and the model_type that keeps others away
VERSION = 2  # of the section: 1 knew widths only
KNOWN_VERSIONS = (1, 2)


def load(path: str | Path, **kwargs: Any) -> PreTrainedModel:
    """The model in the folder `path`, in evaluation mode; `kwargs` are those of `from_pretrained`, such as dtype.

    Raises:
        ValueError: the folder was not pruned by Secateur to such a form, or its weights are incomplete.
    """
    written = json.loads((Path(path) / "config.json").read_text(encoding="utf-8"))
    section = written.get(SECTION)
    if not isinstance(section, dict):
        raise ValueError(f"{path} does not need this file; load it with AutoModelForCausalLM.from_pretrained.")
    if section.get("version") not in KNOWN_VERSIONS:
        raise ValueError(f"{path} needs another version of this file: the one that lies beside its weights.")
    config, pruned = _config_and_class(written, section)
    kwargs.setdefault("dtype", "auto")
    kwargs["output_loading_info"] = True
    model, report = pruned.from_pretrained(path, config=config, use_safetensors=True, **kwargs)
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[problem]:
            raise ValueError(f"{path}: {problem.replace('_', ' ')}: {sorted(map(str, report[problem]))[:5]}")
    loaded: PreTrainedModel = model.eval()
    return loaded


def empty_model(written: dict[str, Any]) -> PreTrainedModel:
    """The model that a config.json describes, on the device "meta", where weights have no memory."""
    config, pruned = _config_and_class(written, written[SECTION])
    with torch.device("meta"):
        model: PreTrainedModel = pruned(config)
    return model


def _config_and_class(written: dict[str, Any], section: dict[str, Any]) -> tuple[Any, type[Any]]:
    """The config of the family that was pruned, and the class whose blocks are as the section says."""
    kept = {key: value for key, value in written.items() if key not in ("model_type", "auto_map", "block_configs")}
    config = AutoConfig.for_model(section["family"], **kept)
    with torch.device("meta"):  # shapes only: to know the class
        family = type(AutoModelForCausalLM.from_config(config))  # type: ignore[no-untyped-call]  # no annotations
    return config, _pruned(family)


def _pruned(family: type[Any]) -> type[Any]:
    """The family's class, but that its blocks are made as the config says when a model is made."""

    class Pruned(family):  # type: ignore[misc]  # the base is known at run time only
        def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
            super().__init__(config, *args, **kwargs)
            _shape_blocks(self, config)

    # transformers finds how a family's tensors are named on disk by the name and the module of its class
    Pruned.__name__ = Pruned.__qualname__ = family.__name__
    Pruned.__module__ = family.__module__
    return Pruned


def _shape_blocks(model: nn.Module, config: Any) -> None:
    """Make the blocks of a new model what the section of its config says."""
    section = getattr(config, SECTION)
    if "widths" in section:
        _narrow(model, config, section)
    blocks: Any = model.get_submodule(section["blocks"])
    for number, halves in section.get("without", {}).items():
        for half in halves:
            remove_half(blocks[int(number)], int(number), section["halves"][half])


def _narrow(model: nn.Module, config: Any, widths: dict[str, Any]) -> None:
    """Replace each block that lost something by one of the same class, built for what it has left."""
    blocks = model.get_submodule(widths["blocks"])
    for number, (groups, neurons) in enumerate(widths["widths"]):
        narrow = copy.deepcopy(config)
        setattr(narrow, widths["neuron_key"], neurons)
        if groups != widths["groups"]:
            narrow.num_attention_heads = groups * widths["queries"]
            if hasattr(config, "num_key_value_heads"):
                narrow.num_key_value_heads = groups
            narrow.head_dim = widths["head_dim"]
        old = blocks[number]  # type: ignore[index]  # a ModuleList
        block = type(old)(narrow, layer_idx=number)
        for path in widths["biases"]:
            projection = block.get_submodule(path)
            if projection.bias is None:
                projection.bias = nn.Parameter(projection.weight.new_zeros(projection.weight.shape[0]))
        like = next(old.parameters())
        blocks[number] = block.to(dtype=like.dtype)  # type: ignore[operator]  # a ModuleList


def remove_half(block: nn.Module, number: int, half: dict[str, Any]) -> None:
    """Take the attention or the MLP out of a block, with the norms that serve it alone.

    Args:
        number: of the block, which is that of its layer in the cache.
        half: `silent`, the module whose output joins the state; `entries`, how many it returns as a tuple, or 0 for the
            bare output; `passed`, modules before or after it that hand on what they get.
    """
    path, _, name = half["silent"].rpartition(".")
    setattr(block.get_submodule(path), name, Silent(number, half["entries"], half["width"]))
    for module in half["passed"]:
        path, _, name = module.rpartition(".")
        setattr(block.get_submodule(path), name, nn.Identity())


class Silent(nn.Module):
    """Stands where an attention or an MLP was, and adds nothing to the state."""

    def __init__(self, number: int, entries: int, width: int) -> None:
        super().__init__()
        self.layer_idx, self.entries, self.width = number, entries, width

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """(…, whatever) → zeros of (…, width)."""
        given = [*args, *kwargs.values()]
        state: Tensor = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        cache = next((value for value in given if isinstance(value, Cache)), None)
        if cache is not None:
            mark = state.new_zeros(state.shape[0], 1, state.shape[1], 1)  # (samples, heads, tokens, head size)
            cache.update(mark, mark, self.layer_idx)
        zeros = state.new_zeros(*state.shape[:-1], self.width)
        return (zeros, *[None] * (self.entries - 1)) if self.entries else zeros


class _Entries(dict[str, Any]):
    """Entries of a config that are read by name, as vLLM reads those of DeciLM's blocks, and written as a dict."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error


class DeciLMConfig(LlamaConfig):  # type: ignore[no-untyped-call]
    """A Llama's config that also says of each block whether it has attention and an MLP.

    `block_configs` has an entry for each block: `attention`, with `no_op` and `n_heads_in_group` (query heads for each
    key-value head), and `ffn`, with `no_op` and `ffn_mult` (3/2 of the MLP's width, in hidden sizes).
    """

    model_type = "nemotron-nas"

    def __init__(self, block_configs: Any = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.block_configs = [
            _Entries({part: _Entries(entries) for part, entries in block.items()}) for block in block_configs
        ]


class DeciLMForCausalLM(LlamaForCausalLM):  # type: ignore[no-untyped-call]
    """A Llama some of whose blocks have no attention, or no MLP."""

    config_class = DeciLMConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        _shape_blocks(self, config)
