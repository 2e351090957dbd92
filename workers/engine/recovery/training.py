"""Training for recovery, on transformers' Trainer, with exact resumption.

The Trainer brings the loop, gradient accumulation with the loss averaged over tokens, schedules and `accelerate`;
`trainer.py` replaces how it saves and resumes (`snapshots.py`). A training that is killed and goes on ends with the
same weights, to the bit, as one that was not: the order of samples comes from the seed, the generators' states are in
the snapshot, and the arithmetic is deterministic (`runtime.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import default_data_collator

from secateur.contract.options.recovery.steps import held_out, total_steps
from secateur.contract.results import LossPoint
from workers.engine.progress import Progress, no_progress
from workers.engine.recovery import snapshots
from workers.engine.recovery.rank_trainer import RankTrainer
from workers.engine.recovery.ranks import ALONE, RankDone, Ranks, agree_on, joined, of_first
from workers.engine.recovery.trainer import REAL_TOKENS, Loss, RecoveryTrainer, Watcher, curve_of
from workers.engine.recovery.training_arguments import TrainingSettings, training_arguments
from workers.engine.runtime import Machine, seed_everything


@dataclass(frozen=True)
class TrainingOutcome:
    steps: int
    tokens: int  # trained on, all epochs
    curve: list[LossPoint]
    resumed_from: list[int]  # steps at which a killed run went on
    seconds: float  # of training, with those of killed runs up to the snapshots that were resumed
    planned: int  # steps that there would have been, had nothing ended it early
    best_step: int | None = None  # whose weights were taken, where validation chose


class Sequences(Dataset[dict[str, Tensor]]):
    """Samples of equal length for next-token training.

    Labels are the tokens themselves unless `columns` has others; the model shifts them.
    """

    def __init__(self, ids: Tensor, columns: Mapping[str, Tensor] | None = None, *, rows: Tensor | None = None) -> None:
        """`ids` is (samples, tokens); `columns` holds tensors with the same first dimension.

        Args:
            rows: which of them these are; None: all. What is mapped from a file stays there.
        """
        self.ids = ids
        self.columns = dict(columns or {})
        self._rows = rows

    def __len__(self) -> int:
        return len(self.ids if self._rows is None else self._rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        at = index if self._rows is None else int(self._rows[index])
        ids = self.ids[at].long()  # those of a long text are mapped from a file, in fewer bytes
        row = {
            "input_ids": ids,
            "labels": ids,
            REAL_TOKENS: torch.tensor(self.ids.shape[1]),
        }
        return {**row, **{name: values[at] for name, values in self.columns.items()}}

    def take(self, rows: Tensor) -> Sequences:
        """These rows alone."""
        return Sequences(self.ids, self.columns, rows=rows if self._rows is None else self._rows[rows])

    def split(self, fraction: float, *, seed: int) -> tuple[Sequences, Sequences | None]:
        """Samples to train on, and samples held out at random (None where the fraction is 0)."""
        if not fraction:
            return self, None
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        held = held_out(len(self), fraction)
        return self.take(order[held:].sort().values), self.take(order[:held].sort().values)


def train(
    model: Any,  # a transformers or a peft model
    data: Sequences,
    *,
    settings: TrainingSettings,
    machine: Machine,
    scratch: Path,
    identity: str,
    ranks: Ranks = ALONE,
    validation: Sequences | None = None,
    loss: Loss | None = None,
    progress: Progress = no_progress,
    on_point: Callable[[LossPoint], None] = lambda point: None,
) -> TrainingOutcome:
    """Train the parameters of `model` that require a gradient, or go on where a killed run was.

    Args:
        scratch: where snapshots lie; the same folder at the next attempt.
        identity: what makes this training this one; a snapshot with another identity is not resumed.
        ranks: the processes that train together; those beside the first do not return.
        validation: samples whose loss is taken with each snapshot; the best snapshot's weights are left in `model`.
        loss: mean loss of a micro-batch; absent: the model's own next-token loss.
        on_point: told each new point of the loss curve.

    Raises:
        StageFailed: a loss or a gradient is not finite, or another rank broke; the last good snapshot is kept.
        RankDone: in another rank than the first, the training is over.
    """
    steps = total_steps(len(data), data.ids.shape[1], settings)
    if ranks.count > 1:
        identity = f"{identity} by {ranks.count} processes"
    snapshot = None
    if ranks.first:
        snapshot = snapshots.latest_snapshot(scratch, identity=identity, ranks=ranks.count)
    state = snapshots.read_state(snapshot) if snapshot is not None else {}
    finished = snapshot is not None and (state["finished"] or snapshots.step_of(snapshot) >= steps)
    together = ranks.count > 1 and not finished  # what is finished needs no others
    with joined(ranks, machine, scratch) if together else nullcontext():
        if together:
            snapshot = _same_start(ranks, machine, scratch, identity=f"{identity} {len(data)}", snapshot=snapshot)
        seed_everything(machine.seed)
        if machine.device.type == "cuda":  # the one attention kernel whose gradients differ from run to run
            torch.backends.cuda.enable_mem_efficient_sdp(False)
        model.config.use_cache = False  # a cache is for generation, and hides that samples are packed
        count = ranks.count if together else 1
        trainer = (RankTrainer if together else RecoveryTrainer)(
            model=model,
            args=training_arguments(
                settings, steps, machine, scratch, validate=validation is not None, processes=count
            ),
            train_dataset=data,
            eval_dataset=validation,
            data_collator=_collate,
        )
        trainer.follow(scratch, identity, loss)
        if isinstance(trainer, RankTrainer):
            trainer.among(ranks)
            seed_everything(machine.seed + ranks.index)  # each drops out units of its own
        limit = None if settings.max_minutes is None else 60 * settings.max_minutes
        watcher = Watcher(trainer, max_seconds=limit, patience=settings.patience, progress=progress, on_point=on_point)
        trainer.add_callback(watcher)
        if snapshot is not None:
            state = snapshots.read_state(snapshot)
            trainer.resumed_from, trainer.seconds_before = state["resumed_from"], state["seconds"]
        if snapshot is not None and finished:
            trainer.restore(snapshot)  # killed after the last step
        else:
            if snapshot is not None:
                trainer.resumed_from = [*trainer.resumed_from, snapshots.step_of(snapshot)]
            trainer.train(resume_from_checkpoint=None if snapshot is None else str(snapshot))
        tokens = trainer.tokens()
    if not ranks.first:
        raise RankDone
    best = trainer.state.best_global_step if validation is not None else None
    if best is not None and best != trainer.state.global_step:
        snapshots.load_weights(snapshots.snapshot_of(scratch, best), model)
    return TrainingOutcome(
        steps=trainer.state.global_step,
        tokens=tokens,
        curve=curve_of(trainer.state),
        resumed_from=trainer.resumed_from,
        seconds=trainer.seconds(),
        planned=steps,
        best_step=best,
    )


def _same_start(ranks: Ranks, machine: Machine, scratch: Path, *, identity: str, snapshot: Path | None) -> Path | None:
    """The snapshot that the first rank found, in each of them, all of which train the same."""
    agree_on(int.from_bytes(hashlib.sha256(identity.encode()).digest()[:7]), machine.device)
    step = of_first(-1 if snapshot is None else snapshots.step_of(snapshot), machine.device)
    return None if step < 0 else snapshots.snapshot_of(scratch, step)


def train_all(model: nn.Module) -> None:
    """Let every parameter be trained."""
    for parameter in model.parameters():
        parameter.requires_grad_(True)


def _collate(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Stack samples; what is padding in all of them is cut off."""
    batch: dict[str, Tensor] = default_data_collator(rows)
    if "attention_mask" not in batch:
        return batch
    longest, whole = int(batch["attention_mask"].sum(1).max()), batch["input_ids"].shape[1]
    return {
        name: value[:, :longest] if value.dim() == 2 and value.shape[1] == whole else value
        for name, value in batch.items()
    }
