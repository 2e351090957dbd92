"""What every recovery is given, and what it hands back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from app.domain.results import LossPoint, TextInfo
from workers.engine.calibration import TextSource
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.models import load_model
from workers.engine.progress import Progress, no_progress
from workers.engine.recovery.training import TrainingOutcome, TrainingSettings
from workers.engine.runtime import Machine

GENERATED_SAMPLES = 512  # of self-generated training text, where the spec names no number


@dataclass(frozen=True)
class RecoveryJob:
    """A pruned model to recover, and what there is to do it with."""

    pruned: Path  # the pruned checkpoint
    original: Path  # the checkpoint that it was made of
    kept: tuple[int, ...]  # blocks of the original that the pruned model has
    out: Path  # `checkpoint/` and, of an adapter method, `adapter/` are written here
    scratch: Path  # snapshots; the next attempt finds them
    options: dict[str, Any]  # the recovery's options, as JSON
    machine: Machine
    texts: TextSource
    progress: Progress = no_progress
    on_point: Callable[[LossPoint], None] = lambda point: None

    def load_pruned(self) -> PreTrainedModel:
        return load_model(self.pruned, device=self.machine.device, dtype=self.machine.dtype)

    def load_original(self) -> PreTrainedModel:
        return load_model(self.original, device=self.machine.device, dtype=self.machine.dtype)

    def identity(self, **more: str) -> str:
        """A hash of everything that the training's result depends on; a snapshot of another is not resumed."""
        known = {
            "options": self.options,
            "model": self.texts.fingerprint,
            "kept": self.kept,
            "seed": self.machine.seed,
            "dtype": str(self.machine.dtype),
            "device": self.machine.device.type,
            **more,
        }
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The pruned checkpoint, opened."""
        return Checkpoint.open(self.pruned)


@dataclass(frozen=True)
class RecoveryOutcome:
    """What a recovery did; its files lie in the job's `out`."""

    text: TextInfo | None
    trainable_parameters: int
    training: TrainingOutcome | None  # None where nothing was trained
    notes: list[str] = field(default_factory=list)


def schedule_notes(settings: TrainingSettings, steps: int) -> list[str]:
    """What the report should say of the schedule, in words."""
    if steps <= settings.warmup_steps:
        reached = settings.learning_rate * steps / settings.warmup_steps
        return [
            f"The training had {steps} steps, no more than its warm-up of {settings.warmup_steps}: the learning rate "
            f"rose to {reached:.3g} and never reached {settings.learning_rate:g}. Set `warmup_steps` lower for short "
            "trainings."
        ]
    return []
