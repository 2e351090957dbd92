"""How many parameters a model has, from its config alone, for every family that the engine takes.

Families with a formula (`secateur/contract/models/formulas.py`) are counted by it; others are built on the meta
device, where parameters have shapes and no memory. Both give the same numbers, to the unit.
"""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig

from secateur.contract.models.architecture import Architecture
from secateur.contract.models.formulas import BlockCount, ParameterCount
from secateur.contract.models.parameters import parameter_count
from workers.engine.architectures.config import as_config, layer_count
from workers.engine.architectures.discovery import skeleton
from workers.engine.architectures.registry import architecture_of
from workers.engine.checkpoints.block_names import block_of


def count_parameters(config: dict[str, Any]) -> ParameterCount:
    """Parameters of the model that `config.json` describes; tied weights count once, buffers do not.

    Raises:
        BadCheckpoint: the config does not describe a model of its family.
        UnsupportedModel: the family is not supported, or not known to transformers.
    """
    loaded = as_config(config)
    counted = parameter_count(loaded.to_dict())  # with the class's defaults written out
    return counted if counted is not None else count_by_structure(loaded, architecture_of(config))


def count_by_structure(config: PretrainedConfig, architecture: Architecture) -> ParameterCount:
    """The same from the modules themselves, built without weights."""
    per_block = [0] * layer_count(config)
    embedding = head = other = 0
    for name, parameter in skeleton(config).named_parameters():  # a tied head comes once, as the embedding
        block = block_of(name, architecture.blocks_prefix + ".")
        if block is not None:
            per_block[block] += parameter.numel()
        elif any(name.startswith(f"{path}.") for path in architecture.embeddings):
            embedding += parameter.numel()
        elif name.startswith(f"{architecture.head}."):
            head += parameter.numel()
        else:
            other += parameter.numel()
    return ParameterCount([BlockCount(0, 0, shared=size) for size in per_block], embedding, head, other)
