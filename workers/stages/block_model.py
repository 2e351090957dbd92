"""The original as a stage scores it: in memory where it fits, and else from disk."""

from __future__ import annotations

from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.block_model import BlockModel
from workers.engine.model.loading import load_model
from workers.engine.runtime import Machine, available_memory

MEMORY_SHARE = 0.6  # of the free memory: a model that needs more is streamed from disk


def must_stream(machine: Machine, parameters: int) -> bool:
    """Whether memory does not hold a model of so many parameters, with room to work in."""
    return parameters * machine.dtype.itemsize > MEMORY_SHARE * available_memory(machine.device)


def block_model(checkpoint: Checkpoint, machine: Machine, parameters: int) -> BlockModel:
    """The model in memory where it fits with room to work in, else streamed from disk block by block."""
    if must_stream(machine, parameters):
        return BlockModel.from_checkpoint(checkpoint, device=machine.device, dtype=machine.dtype)
    return BlockModel.from_model(load_model(checkpoint, device=machine.device, dtype=machine.dtype))
