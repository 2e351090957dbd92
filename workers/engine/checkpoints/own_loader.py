"""Checkpoints that need the project's loader: their config, and the file that is shipped beside the weights.

Their model type is "secateur", so that no other program loads them by mistake.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workers.engine.checkpoints import modeling_secateur

LOADER_FILE = "modeling_secateur.py"


def needs_loader(config: Mapping[str, Any]) -> bool:
    """Whether the checkpoint with this config.json is one of them."""
    return config.get("model_type") == modeling_secateur.SECTION


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
    return {**kept, "model_type": modeling_secateur.SECTION, modeling_secateur.SECTION: named}


def add_loader(folder: Path) -> None:
    """Put the loader beside the weights."""
    shutil.copyfile(modeling_secateur.__file__, folder / LOADER_FILE)
