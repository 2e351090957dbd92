"""Loads a checkpoint that Secateur pruned to widths which differ from block to block.

Usage, with this file on the path:

    from modeling_secateur import load
    model = load("path/to/checkpoint")

It needs torch and transformers and nothing else. The model is one of transformers' own classes in which some blocks
were built narrower, by the same classes, before the weights are loaded; so generation, the key-value cache,
quantisation and device maps work as they do for the original, and no code of the checkpoint runs but this file, which
you can read. Arguments beyond the path go to `from_pretrained`.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

SECTION = "secateur"  # the entry of config.json that holds the widths, and the model_type that keeps others away
VERSION = 1


def load(path: str | Path, **kwargs: Any) -> PreTrainedModel:
    """The model in the folder `path`, in evaluation mode; `kwargs` are those of `from_pretrained`, such as dtype.

    Raises:
        ValueError: the folder was not pruned by Secateur to several widths, or its weights are incomplete.
    """
    written = json.loads((Path(path) / "config.json").read_text(encoding="utf-8"))
    widths = written.get(SECTION)
    if not isinstance(widths, dict):
        raise ValueError(f"{path} was not pruned to several widths; load it with AutoModelForCausalLM.from_pretrained.")
    if widths.get("version") != VERSION:
        raise ValueError(f"{path} needs another version of this file: the one that lies beside its weights.")
    written.pop("model_type")
    config = AutoConfig.for_model(widths["family"], **written)
    with torch.device("meta"):  # shapes only: to know the class
        family = type(AutoModelForCausalLM.from_config(config))  # type: ignore[no-untyped-call]  # no annotations
    kwargs.setdefault("dtype", "auto")
    kwargs["output_loading_info"] = True
    model, report = _narrowed(family).from_pretrained(path, config=config, use_safetensors=True, **kwargs)
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[problem]:
            raise ValueError(f"{path}: {problem.replace('_', ' ')}: {sorted(map(str, report[problem]))[:5]}")
    loaded: PreTrainedModel = model.eval()
    return loaded


def _narrowed(family: type[Any]) -> type[Any]:
    """The family's class, but that its blocks are narrowed as the config says when a model is made."""

    class Narrowed(family):  # type: ignore[misc]  # the base is known at run time only
        def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
            super().__init__(config, *args, **kwargs)
            _narrow(self, config, getattr(config, SECTION))

    # transformers finds how a family's tensors are named on disk by the name and the module of its class
    Narrowed.__name__ = Narrowed.__qualname__ = family.__name__
    Narrowed.__module__ = family.__module__
    return Narrowed


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
