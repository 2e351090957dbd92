"""transformers' Trainer, with snapshots of its own, a check of every loss, and bounds.

Overrides private methods of the Trainer, as they are in the pinned version (docs/decisions/training-snapshots.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from secateur.contract.errors import StageFailed
from secateur.contract.results import LossPoint
from workers.engine.progress import Progress
from workers.engine.recovery import snapshots

SNAPSHOTS_KEPT = 2
TRAINER_STATE = "trainer_state.json"
REAL_TOKENS = "real_tokens"  # column: tokens of a sample that are no padding

Loss = Callable[[nn.Module, Mapping[str, Tensor]], Tensor]


class RecoveryTrainer(Trainer):
    """A training that can be killed at any moment."""

    model: Any  # set by the time that anything here is called, as are the optimizer and the schedule
    optimizer: Any
    lr_scheduler: Any

    def follow(self, folder: Path, identity: str, loss: Loss | None) -> None:
        """Say where snapshots go and what is trained."""
        self._folder = folder
        self._identity = identity
        self._own_loss = loss
        self._tokens = torch.zeros((), dtype=torch.int64, device=self.args.device)
        self.resumed_from: list[int] = []
        self.seconds_before = 0.0
        self._began = time.monotonic()
        if loss is not None:
            self.loss_is_scaled_for_ga = False  # a mean over the micro-batch: the Trainer divides by their number

    def seconds(self) -> float:
        """Of training, those of killed attempts up to the snapshot included."""
        return self.seconds_before + time.monotonic() - self._began

    def tokens(self) -> int:
        """Tokens trained on so far, every time that they were seen, padding left out."""
        return int(self._tokens)

    def agreed(self, flag: bool) -> bool:
        """What the first of the processes that train together says; alone, `flag` itself."""
        return flag

    def restore(self, snapshot: Path) -> None:
        """Take over weights, log and counts of a snapshot without training on."""
        snapshots.load_weights(snapshot, self.model)
        self.state = TrainerState.load_from_json(str(snapshot / TRAINER_STATE))
        self._tokens.fill_(snapshots.read_state(snapshot)["tokens"])

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        real = inputs.pop(REAL_TOKENS)
        if model.training:
            self._tokens += real.sum()
        if self._own_loss is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        loss = self._own_loss(model, inputs)
        return (loss, {}) if return_outputs else loss

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        loss = super().training_step(*args, **kwargs)
        self._check_loss(loss)
        return loss

    def _check_loss(self, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            raise self._not_finite("loss", loss)

    def _clip_grad_norm(self, model: Any) -> Any:
        norm = super()._clip_grad_norm(model)  # type: ignore[no-untyped-call]  # no annotations upstream
        if not torch.isfinite(torch.as_tensor(norm)):
            raise self._not_finite("gradient", norm)
        return norm

    def _not_finite(self, what: str, value: Any) -> StageFailed:
        kept = snapshots.list_snapshots(self._folder)
        last = f"The snapshot of step {snapshots.step_of(kept[-1])} is kept." if kept else "No snapshot was taken yet."
        return StageFailed(
            f"The {what} is {float(value)} at step {self.state.global_step + 1} of {self.state.max_steps}. {last} "
            'Lower the learning rate, or compute in another dtype ("bfloat16" or "float32" rather than "float16").'
        )

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        part = snapshots.part_of(self._folder, self.state.global_step)
        snapshots.begin_snapshot(part)
        self._write_snapshot(part, self.tokens())
        self._finish_snapshot(part)

    def _write_snapshot(self, part: Path, tokens: int) -> None:
        snapshots.save_weights(part, self.model)
        self.state.save_to_json(str(part / TRAINER_STATE))
        snapshots.write_state(
            part,
            identity=self._identity,
            finished=self.control.should_training_stop,
            resumed_from=self.resumed_from,
            seconds=self.seconds(),
            tokens=tokens,
            optimizer=snapshots.save_optimizer(part, self.optimizer.state_dict()),
            schedule=self.lr_scheduler.state_dict(),
            random=snapshots.save_random(part),
        )

    def _finish_snapshot(self, part: Path) -> None:
        snapshots.finish_snapshot(part, keep=SNAPSHOTS_KEPT, best=self.state.best_global_step)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        snapshots.load_weights(Path(resume_from_checkpoint), self.model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        state = snapshots.read_state(Path(checkpoint))
        self._tokens.fill_(state["tokens"])
        self.optimizer.load_state_dict(snapshots.load_optimizer(Path(checkpoint), state["optimizer"]))
        self.lr_scheduler.load_state_dict(state["schedule"])

    def _load_scaler(self, checkpoint: str | None) -> None:
        """No gradient scaler is used: what is trained is fp32."""

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            snapshots.load_random(Path(checkpoint), snapshots.read_state(Path(checkpoint))["random"])


class Watcher(TrainerCallback):
    """Passes on steps and points of the curve, and ends the training at its bounds."""

    def __init__(
        self,
        trainer: RecoveryTrainer,
        *,
        max_seconds: float | None,
        patience: int | None,
        progress: Progress,
        on_point: Callable[[LossPoint], None],
    ) -> None:
        self._trainer = trainer
        self._max_seconds = max_seconds
        self._patience = patience
        self._progress = progress
        self._on_point = on_point

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._progress(state.global_step, state.max_steps, "steps")
        if self._max_seconds is not None and self._trainer.agreed(self._trainer.seconds() >= self._max_seconds):
            control.should_training_stop = control.should_save = True
            control.should_evaluate = args.do_eval

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.log_history and {"loss", "eval_loss"} & state.log_history[-1].keys() and (points := curve_of(state)):
            self._on_point(points[-1])

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: Any = None, **_: Any
    ) -> None:
        losses = [entry["eval_loss"] for entry in state.log_history if "eval_loss" in entry]
        if not torch.isfinite(torch.tensor(losses[-1])):
            raise StageFailed(f"The validation loss is {losses[-1]} at step {state.global_step}.")
        since_best = len(losses) - 1 - losses.index(min(losses))
        if self._patience is not None and since_best >= self._patience:
            control.should_training_stop = control.should_save = True


def curve_of(state: TrainerState) -> list[LossPoint]:
    """The loss curve, from the log that the Trainer keeps in its state and so in every snapshot.

    A validation loss stands at the last point of training loss that is not after it.
    """
    points: dict[int, LossPoint] = {}
    for entry in state.log_history:
        step = int(entry["step"])
        if "loss" in entry:
            points[step] = LossPoint(step=step, loss=entry["loss"], learning_rate=entry["learning_rate"])
        elif "eval_loss" in entry and points:
            last = max(points)
            points[last] = points[last].model_copy(update={"validation_loss": entry["eval_loss"]})
    return [points[step] for step in sorted(points)]
