"""Which widths a family's own classes can express, found by asking them.

A config that names other numbers of heads or neurons is tried out: the family's block is built from it on the meta
device, and its shapes are held against those that the cut tensors would have. So no family is named here. Some config
classes take only head counts that divide the hidden size, some blocks derive the size of a head from the hidden size;
there attention stays whole and the neurons carry the ratio.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig
from transformers.initialization import no_init_weights

from secateur.contract.errors import BadCheckpoint, UnsupportedModel
from workers.engine.architectures.config import as_config
from workers.engine.pruning.channels import Layout

# What families call the number of neurons.
_NEURON_KEYS = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "inner_dim", "ffn_size")
# Switches by which some families give their projections biases, of attention and of the MLP.
_BIAS_FLAGS = ("attention_bias", "mlp_bias")

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Biases:
    """Where the mean output of what was pruned is kept: biases of the attention's output and of the down-projection."""

    flags: tuple[str, ...]  # config switches to turn on
    added: tuple[str, ...]  # parameters within a block that they bring, zero but for the two outputs'
    homeless: tuple[str, ...]  # modules that get a bias which the config cannot express: needs the loader


@dataclass(frozen=True)
class WidthConfig:
    """A model's config, and the narrower ones that can be made of it."""

    config: dict[str, Any]  # as in config.json
    layout: Layout
    block: type[nn.Module]  # the family's class of blocks

    @cached_property
    def neuron_key(self) -> str:
        """The config entry that sets the number of neurons.

        Raises:
            UnsupportedModel: none does.
        """
        for key in _NEURON_KEYS:
            if self._shapes({**self.config, key: 1}) == self.layout.shapes_of(self.layout.groups, 1):
                return key
        raise UnsupportedModel.field(
            "kind",
            f"No entry of a {self.config.get('model_type')} config sets the width of the MLP alone.",
            value=self.config.get("model_type"),
            expected="depth pruning",
        )

    @cached_property
    def group_counts(self) -> tuple[int, ...]:
        """Numbers of groups, ascending, with which transformers loads a model of one width; all are the last."""
        full = self.layout.groups
        if not self.layout.cuts_groups:
            return (full,)
        accepted = [g for g in range(1, full) if self._accepts(self.narrowed(g, self.layout.neurons), g)]
        return (*accepted, full)

    @cached_property
    def any_groups(self) -> bool:
        """Whether the family's block can be built with any number of groups, whatever the config class takes."""
        if self.layout.groups == 1 or not self.layout.cuts_groups:
            return False
        loaded = with_widths(as_config(self.config), heads=self.layout.queries, groups=1, head_dim=self.layout.head_dim)
        return self._built(loaded) == self.layout.shapes_of(1, self.layout.neurons)

    def narrowed(self, groups: int, neurons: int, *, flags: tuple[str, ...] = ()) -> dict[str, Any]:
        """config.json of the model whose blocks all keep so many groups and neurons."""
        result = copy.deepcopy(self.config)
        result[self.neuron_key] = neurons
        if groups != self.layout.groups:
            names = as_config(self.config).attribute_map
            result[names.get("num_attention_heads", "num_attention_heads")] = groups * self.layout.queries
            if hasattr(as_config(self.config), "num_key_value_heads"):
                result[names.get("num_key_value_heads", "num_key_value_heads")] = groups
            result[names.get("head_dim", "head_dim")] = self.layout.head_dim
        result.update(dict.fromkeys(flags, True))
        return result

    def bias_flag(self, path: str) -> str | None:
        """The config switch that gives the block's module `path` a bias; None where there is none."""
        for flag in _BIAS_FLAGS:
            if self.config.get(flag) is not True and f"{path}.bias" in (
                self._shapes({**self.config, flag: True}) or {}
            ):
                return flag
        return None

    def biases_by(self, flags: tuple[str, ...]) -> tuple[str, ...]:
        """Parameters of a block that turning the switches on adds."""
        if not flags:
            return ()
        shapes = self._shapes({**self.config, **dict.fromkeys(flags, True)}) or {}
        return tuple(name for name in shapes if name not in self.layout.shapes)

    def _accepts(self, config: Mapping[str, Any], groups: int) -> bool:
        return self._shapes(config) == self.layout.shapes_of(groups, self.layout.neurons)

    def _shapes(self, config: Mapping[str, Any]) -> Shapes | None:
        """Parameters of the block that the family builds from `config`; None where it refuses to."""
        try:
            return self._built(as_config(dict(config)))
        except BadCheckpoint:
            return None

    def _built(self, config: PretrainedConfig) -> Shapes | None:
        build: Any = self.block
        config._attn_implementation = "eager"  # some blocks choose a class by it, and a model would have set it
        try:
            with no_init_weights(), torch.device("meta"):
                block: nn.Module = build(config, layer_idx=0)
        except Exception:  # whatever a constructor raises on sizes that do not fit together: a no, like any other
            return None
        return {name: tuple(parameter.shape) for name, parameter in block.named_parameters()}


def with_widths(
    config: PretrainedConfig, *, heads: int, groups: int, head_dim: int, neurons: tuple[str, int] | None = None
) -> PretrainedConfig:
    """A copy of `config` for one block alone, past the config class's check of the whole model's sizes."""
    narrow = copy.deepcopy(config)
    narrow.num_attention_heads = heads
    if hasattr(config, "num_key_value_heads"):
        narrow.num_key_value_heads = groups
    narrow.head_dim = head_dim
    if neurons is not None:
        setattr(narrow, *neurons)
    return narrow
