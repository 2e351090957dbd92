"""What the checks of a job look at: its spec, its model as it lies on this machine, and where its texts come from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from secateur.contract.spec import CompressionSpec, HubModel
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.runtime import Machine
from workers.engine.text.text_source import TextSource
from workers.stages.context import StageContext
from workers.stages.original import Original, text_source


@dataclass(frozen=True)
class Subject:
    """One job, looked at before anything is computed."""

    context: StageContext
    machine: Machine
    original: Original

    @property
    def spec(self) -> CompressionSpec:
        return self.context.stage.spec

    @property
    def checkpoint(self) -> Checkpoint:
        return self.original.checkpoint

    @property
    def config(self) -> dict[str, Any]:
        return self.checkpoint.config

    @cached_property
    def texts(self) -> TextSource:
        return text_source(self.context, self.original, self.machine)


def model_field(spec: CompressionSpec) -> tuple[str, str]:
    """The pointer to the name of the job's model, and the name."""
    if isinstance(spec.model, HubModel):
        return "/model/id", spec.model.id
    return "/model/path", spec.model.path
