"""Check of the model: transformers knows its family, its config builds one, and the settings of generation are some."""

from __future__ import annotations

from secateur.contract.models.positions import positions_of
from workers.engine.architectures.config import as_config
from workers.engine.architectures.discovery import skeleton
from workers.engine.architectures.registry import architecture_of
from workers.engine.checkpoints.computable import check_quantiser_settings
from workers.engine.checkpoints.generation_file import check_generation_file
from workers.stages.checks.subject import Subject


def look(subject: Subject) -> str:
    """Raises BadCheckpoint or UnsupportedModel."""
    architecture = architecture_of(subject.config)
    check_quantiser_settings(subject.config)
    skeleton(as_config(subject.config))
    check_generation_file(subject.original.path)
    info = subject.original.info
    positions = positions_of(subject.config)
    held = f", {positions:,} positions" if positions is not None else ""
    return f"{architecture.family}, {info.blocks} blocks, {info.parameters:,} parameters{held}"
