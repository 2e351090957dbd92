"""What every recovery is given and hands back, how it is found, and the steps that those that train have in common.

The table of recoveries is the contract's (`secateur/contract/options/recovery.py`). How one works is `recover` in the
file of its name here, which takes its options; a test holds every row against that.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from secateur.contract.errors import InvalidInput
from secateur.contract.numbers import plain
from secateur.contract.options.recovery import Recovery
from secateur.contract.options.training import TrainedRecovery
from secateur.contract.results import Healed, LossPoint, Schedule, TextInfo
from secateur.contract.training_steps import held_out, total_steps, warmup_of
from workers.engine.architectures.config import as_config
from workers.engine.checkpoints.checkpoint import CONFIG_FILE, Checkpoint
from workers.engine.model.block_model import BlockModel
from workers.engine.model.loading import load_model
from workers.engine.progress import Progress, no_progress
from workers.engine.recovery.clock import Clock
from workers.engine.recovery.objective import NEXT_TOKEN, Objective
from workers.engine.recovery.ranks import ALONE, Ranks
from workers.engine.recovery.sequences import Sequences
from workers.engine.recovery.training import Training, TrainingOutcome, train
from workers.engine.recovery.training_settings import TrainingSettings
from workers.engine.remembered import remembered
from workers.engine.runtime import Machine
from workers.engine.text.text_source import TextSource


@dataclass(frozen=True)
class Teacher:
    """A model other than the original that is learnt from: the target of a draft. It has written the texts too."""

    checkpoint: Checkpoint
    streamed: bool  # whether it is walked from disk


@dataclass(frozen=True)
class RecoveryJob:
    """A pruned model to recover, and what there is to do it with."""

    pruned: Checkpoint  # to recover, or what an earlier job has made of it
    original: Checkpoint  # that it was made of
    kept: tuple[int, ...]  # blocks of the original that the pruned model has
    out: Path  # `checkpoint/` and, of an adapter method, `adapter/` are written here
    scratch: Path  # snapshots; the next attempt finds them
    options: Recovery  # the recovery's own
    machine: Machine
    texts: TextSource
    ranks: Ranks = ALONE  # the processes that train it together
    whole_blocks: bool = True  # whether what was removed is whole blocks, and nothing else
    streamed: bool = False  # whether the original is walked from disk, because memory does not hold it
    teacher: Teacher | None = None  # whose predictions are learnt; None: the original
    progress: Progress = no_progress
    on_point: Callable[[LossPoint], None] = lambda point: None
    log: Callable[[str], None] = lambda message: None

    @cached_property
    def clock(self) -> Clock:
        """Of the minutes that the options give to the whole."""
        minutes = self.options.max_minutes if isinstance(self.options, TrainedRecovery) else None
        if minutes is None or not self.ranks.first:  # the others do what the first found time for
            return Clock(self.scratch / "seconds.json", None)
        return Clock(self.scratch / "seconds.json", 60 * minutes)

    @property
    def in_parts(self) -> bool:
        """Whether each of the processes that train holds a part of the model."""
        return isinstance(self.options, TrainedRecovery) and self.options.shard and self.ranks.count > 1

    def load(self, checkpoint: Checkpoint) -> PreTrainedModel:
        """A checkpoint in memory."""
        return load_model(checkpoint, device=self.machine.device, dtype=self.machine.dtype)

    def load_to_train(self, checkpoint: Checkpoint, *, whole: bool = False) -> PreTrainedModel:
        """The same for the model that is trained; `whole` weights are fp32 then, whatever is computed in.

        One that no device holds is loaded into the host's memory, from which the training takes its parts.
        """
        device = torch.device("cpu") if self.in_parts else self.machine.device
        return load_model(checkpoint, device=device, dtype=torch.float32 if whole else self.machine.dtype)

    def original_blocks(self) -> BlockModel:
        """The original, to be walked: in memory, or streamed from disk."""
        if self.streamed:
            return BlockModel.from_checkpoint(self.original, device=self.machine.device, dtype=self.machine.dtype)
        return BlockModel.from_model(self.load(self.original))

    def teacher_blocks(self) -> BlockModel:
        """The model whose predictions are learnt, to be walked likewise."""
        if self.teacher is None:
            return self.original_blocks()
        if self.teacher.streamed:
            checkpoint = self.teacher.checkpoint
            return BlockModel.from_checkpoint(checkpoint, device=self.machine.device, dtype=self.machine.dtype)
        return BlockModel.from_model(self.load(self.teacher.checkpoint))

    @property
    def writer_streamed(self) -> bool:
        """Whether the model that writes texts is walked from disk, which a generation would read once a token."""
        return self.streamed if self.teacher is None else self.teacher.streamed

    @property
    def vocabulary(self) -> int:
        """Tokens that original and teacher both have a row for; the rest of the larger embedding is padding."""
        rows = int(as_config(self.original.config).vocab_size)
        return min(rows, int(self.texts.config.vocab_size))

    def recall(self, name: str) -> Any:
        """What `remembered` keeps under this name; None where nothing is."""
        file = self.scratch / name
        return json.loads(file.read_bytes()) if file.is_file() else None

    def remembered(self, name: str, find: Callable[[], Any]) -> Any:
        """What `find` gave to the first attempt of this stage that got so far, as JSON: later ones get the same."""
        return remembered(self.scratch / name, find)

    def identity(self, **more: str) -> str:
        """A hash of everything that the training's result depends on; a snapshot of another is not resumed."""
        known = {
            "options": self.options.model_dump(mode="json"),
            "model": self.texts.fingerprint,
            "kept": self.kept,
            "pruned": hashlib.sha256((self.pruned.path / CONFIG_FILE).read_bytes()).hexdigest(),
            "seed": self.machine.seed,
            "dtype": str(self.machine.dtype),
            "device": self.machine.device.type,
            **more,
        }
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class RecoveryOutcome:
    """What a recovery did; its files lie in the job's `out`."""

    text: TextInfo | None
    trainable_parameters: int
    training: TrainingOutcome | None  # None where nothing was trained
    notes: list[str] = field(default_factory=list)
    healed: Healed = field(default_factory=Healed)
    schedule: Schedule | None = None  # of the learning rate, where something was trained


def run_recovery(job: RecoveryJob) -> RecoveryOutcome:
    """Recover the pruned model by the recovery whose options the job has.

    Raises:
        InvalidInput: the text is too short or cannot be read.
        UnsupportedModel: the recovery does not hold for the model.
        StageFailed: a loss is not finite.
    """
    recover: Callable[[RecoveryJob, Any], RecoveryOutcome]
    recover = import_module(f"workers.engine.recovery.{job.options.kind}").recover
    return recover(job, job.options)


def check_optimizer(options: TrainedRecovery) -> None:
    """Before anything is loaded: whether this machine has what the options' optimizer needs.

    Raises:
        InvalidInput: bitsandbytes is not installed.
    """
    if options.optimizer == "adamw_8bit" and importlib.util.find_spec("bitsandbytes") is None:
        raise InvalidInput.field(
            "optimizer",
            "This worker has no bitsandbytes, which keeps the optimizer's moments in 8 bits.",
            value=options.optimizer,
            expected='"adamw", or a worker installed with the extra `bitsandbytes`',
        )


def settings_of(options: TrainedRecovery, *, samples: int, **more: Any) -> TrainingSettings:
    """The options that all trainings share, as `train` takes them, for a text of so many samples.

    Raises:
        InvalidInput: the warm-up does not end.
    """
    steps = total_steps(samples - held_out(samples, options.validation), options.tokens, options)
    return TrainingSettings(
        learning_rate=options.learning_rate,
        batch_size=options.batch_size,
        micro_batch_size=options.micro_batch_size,
        epochs=options.epochs,
        warmup_steps=warmup_of(options.warmup_steps, steps, usual=options.usual_warmup),
        checkpoint_steps=options.checkpoint_steps,
        max_steps=options.max_steps,
        max_tokens=options.max_tokens,
        max_minutes=options.max_minutes,
        patience=options.patience,
        optimizer=options.optimizer,
        shard=options.shard,
        **more,
    )


def run_training(
    job: RecoveryJob,
    options: TrainedRecovery,
    model: Any,
    data: Sequences,
    settings: TrainingSettings,
    *,
    identity: str,
    objective: Objective = NEXT_TOKEN,
) -> TrainingOutcome:
    """Hold samples out as the options say, and train.

    Raises:
        InvalidInput: there are too few samples to hold any out.
        StageFailed: a loss is not finite.
    """
    if options.validation and len(data) < 2:
        raise InvalidInput.field(
            "validation",
            "There is a single training sample, so none can be held out.",
            value=options.validation,
            expected="0, or a text with more samples",
        )
    trained, held = data.split(options.validation, seed=job.machine.seed)
    left = job.clock.left()
    if left is not None:
        settings = replace(settings, max_minutes=left / 60)
    return train(
        Training(
            model,
            trained,
            settings=settings,
            machine=job.machine,
            scratch=job.scratch / "training",
            identity=identity,
            ranks=job.ranks,
            validation=held,
            objective=objective,
            progress=job.progress,
            on_point=job.on_point,
        )
    )


def trainable_parameters(model: torch.nn.Module) -> int:
    """How many numbers are trained."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def schedule_of(settings: TrainingSettings, outcome: TrainingOutcome) -> Schedule:
    """What the learning rate really did: the first step of a warm-up has none, and step w the whole (transformers)."""
    peak, warmup, last = settings.learning_rate, settings.warmup_steps, outcome.steps - 1
    return Schedule(
        shape=settings.schedule,
        steps=outcome.planned,
        warmup_steps=warmup,
        learning_rate=peak,
        reached=peak if last >= warmup else peak * last / warmup,
    )


def training_notes(settings: TrainingSettings, outcome: TrainingOutcome) -> list[str]:
    """What the report should say of how the training went, in words."""
    notes = []
    if outcome.steps <= settings.warmup_steps:
        reached = schedule_of(settings, outcome).reached
        notes.append(
            f"The training ended after {outcome.steps} steps, within its warm-up of {settings.warmup_steps}: the "
            f"learning rate rose to {plain(reached, 3)} and never reached {plain(settings.learning_rate)}."
        )
    if outcome.steps < outcome.planned:
        notes.append(f"The training ended after {outcome.steps} of {outcome.planned} steps, at one of its bounds.")
    if outcome.best_step is not None and outcome.best_step < outcome.steps:
        notes.append(
            f"The weights are those of step {outcome.best_step} of {outcome.steps}, where the validation loss was "
            "least."
        )
    return notes
