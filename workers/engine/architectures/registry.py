"""From a config to where its family has its modules.

The table of families is the contract's (`secateur/contract/models/families.py`); one that is not there is found by
structure (`discovery.py`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from transformers import PretrainedConfig

from secateur.contract.models.architecture import Architecture
from secateur.contract.models.families import FAMILIES, family_of
from workers.engine.architectures.config import as_config, layer_count, refuse_unsupported
from workers.engine.architectures.discovery import discover, per_layer_lists


def has_row(architecture: Architecture) -> bool:
    """Whether the family stands in the table, and was not found by structure."""
    return architecture.family in {family.architecture.family for family in FAMILIES}


def architecture_of(config: dict[str, Any] | PretrainedConfig) -> Architecture:
    """The row of `config`'s family, with `per_layer_lists` as this very config has them.

    Needs no weights: an unknown family is built once on the meta device and found by structure.

    Raises:
        UnsupportedModel: the model is no decoder-only Transformer (encoder, encoder-decoder, state-space,
            vision …), or transformers does not know it; the reason is in the message.
    """
    loaded = as_config(config)
    refuse_unsupported(loaded)
    family = family_of(loaded.model_type)
    if family is None:
        return discover(loaded)
    written = config if isinstance(config, dict) else config.to_dict()
    lists = per_layer_lists(written, layer_count(loaded), extra=family.architecture.per_layer_lists)
    return replace(family.architecture, per_layer_lists=lists)
