"""How to train, and what transformers' Trainer calls it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from transformers import TrainingArguments

from workers.engine.runtime import Machine

_OPTIMIZERS = {"adamw": "adamw_torch_fused", "adamw_8bit": "adamw_bnb_8bit"}  # their names in transformers
CURVE_POINTS = 500  # at most so many points of the loss curve


@dataclass(frozen=True)
class TrainingSettings:
    """How to train; what is trained is which parameters of the model require a gradient."""

    learning_rate: float
    batch_size: int
    micro_batch_size: int
    epochs: float
    warmup_steps: int
    checkpoint_steps: int
    max_steps: int | None = None
    max_tokens: int | None = None
    max_minutes: float | None = None
    patience: int | None = None
    schedule: Literal["linear", "cosine"] = "linear"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    gradient_checkpointing: bool = False
    autocast: bool = False  # compute in bf16 while the weights are fp32
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"


def training_arguments(
    settings: TrainingSettings, steps: int, machine: Machine, scratch: Path, *, validate: bool, processes: int = 1
) -> TrainingArguments:
    """The Trainer's arguments, for one of so many processes that train together."""
    arguments = TrainingArguments(
        output_dir=str(scratch),
        use_cpu=machine.device.type == "cpu",
        bf16=settings.autocast,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        warmup_steps=settings.warmup_steps,
        per_device_train_batch_size=settings.micro_batch_size,
        per_device_eval_batch_size=settings.micro_batch_size,
        gradient_accumulation_steps=settings.batch_size // (settings.micro_batch_size * processes),
        activation_checkpointing=settings.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False} if settings.gradient_checkpointing else None,
        max_steps=steps,
        max_grad_norm=settings.max_grad_norm,
        weight_decay=settings.weight_decay,
        optim=_OPTIMIZERS[settings.optimizer],
        logging_steps=max(1, steps // CURVE_POINTS),
        logging_first_step=True,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=settings.checkpoint_steps,
        eval_strategy="steps" if validate else "no",
        eval_steps=settings.checkpoint_steps if validate else None,
        metric_for_best_model="loss" if validate else None,
        greater_is_better=False if validate else None,
        prediction_loss_only=True,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=machine.device.type != "cpu",
        remove_unused_columns=False,
        seed=machine.seed,
        data_seed=machine.seed,
        # Several processes: without it gradients are put into other buckets after the first step, so that a resumed
        # training would add them up in another order. It also lets a rank's samples leave experts unused.
        ddp_find_unused_parameters=True,
    )
    arguments._n_gpu = min(arguments._n_gpu, 1)  # one device: DataParallel would change the batch
    return arguments
