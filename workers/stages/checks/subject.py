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
from workers.stages.original import Original, open_target, text_source


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
    def target(self) -> Original | None:
        """The model that a draft is for, if the job makes one."""
        return None if self.spec.target_model is None else open_target(self.context)

    @cached_property
    def texts(self) -> TextSource:
        return text_source(self.context, self.original, self.machine)

    @cached_property
    def training_texts(self) -> TextSource:
        """Where the texts of the recovery come from: a draft's target writes them, and reads them too."""
        return self.texts if self.target is None else text_source(self.context, self.target, self.machine)


def model_field(spec: CompressionSpec) -> tuple[str, str]:
    """The pointer to the name of the job's model, and the name."""
    if isinstance(spec.model, HubModel):
        return "/model/id", spec.model.id
    return "/model/path", spec.model.path
