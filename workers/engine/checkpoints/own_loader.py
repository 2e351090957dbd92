"""Checkpoints that need the project's loader: their config, and the file that is shipped beside the weights.

Their model type is "secateur", so that no other program loads them by mistake. But a Llama-shaped one that lost halves
of blocks has the config of DeciLM where that says the same: vLLM runs it, and llama.cpp's converter reads it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workers.engine.checkpoints import modeling_secateur
from workers.engine.checkpoints.checkpoint import CONFIG_FILE
from workers.engine.checkpoints.decilm import decilm_entries
from workers.engine.checkpoints.json_file import write_json

LOADER_FILE = "modeling_secateur.py"


def needs_loader(config: Mapping[str, Any]) -> bool:
    """Whether the checkpoint with this config.json is one of them."""
    return isinstance(config.get(modeling_secateur.SECTION), Mapping)


def family_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """config.json of the model with whole blocks that `loader_config` was given, but for its entries for programs."""
    gone = (modeling_secateur.SECTION, "architectures", "auto_map", "block_configs")
    kept = {key: value for key, value in config.items() if key not in gone}
    return {**kept, "model_type": config[modeling_secateur.SECTION]["family"]}


def lost_halves(config: Mapping[str, Any]) -> dict[int, list[str]]:
    """By the number of a block what it has lost: "attention", "mlp". Empty where halves are whole."""
    without: Mapping[str, list[str]] = config[modeling_secateur.SECTION].get("without", {})
    return {int(number): list(halves) for number, halves in without.items()}


def loader_config(config: Mapping[str, Any], **section: Any) -> dict[str, Any]:
    """config.json of a checkpoint whose blocks are as `section` says, in the terms of `modeling_secateur.py`.

    Args:
        config: of the model with whole blocks.
    """
    kept = {key: value for key, value in config.items() if key not in ("architectures", "auto_map")}
    named = {
        "version": modeling_secateur.VERSION,
        "family": config["model_type"],  # not called model_type, by which transformers finds nested configs
        **section,
    }
    own = {**kept, "model_type": modeling_secateur.SECTION, modeling_secateur.SECTION: named}
    return {**own, **decilm_entries(config, lost_halves(own))}


def save_loader(folder: Path) -> None:
    """Finish a checkpoint that transformers saved of a model of `modeling_secateur.py`; of others nothing changes."""
    config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    section = config.get(modeling_secateur.SECTION)
    if section is not None:
        more = {key: value for key, value in section.items() if key not in ("version", "family")}
        write_json(folder / CONFIG_FILE, loader_config(config, **more))
        add_loader(folder)


def add_loader(folder: Path) -> None:
    """Put the loader beside the weights."""
    shutil.copyfile(modeling_secateur.__file__, folder / LOADER_FILE)
