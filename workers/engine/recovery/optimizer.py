"""AdamW (Loshchilov and Hutter 2017, arXiv 1711.05101), its clipping, and the schedule of its learning rate."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from workers.engine.recovery.training_settings import TrainingSettings

_BETAS, _EPSILON = (0.9, 0.999), 1e-8


def make_optimizer(model: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """For what requires a gradient; only matrices decay, no norms and no biases."""
    trained = [(name, each) for name, each in model.named_parameters() if each.requires_grad]
    decays = {name: each.dim() > 1 and not name.endswith("bias") for name, each in trained}
    groups = [
        {"params": [each for name, each in trained if decays[name]], "weight_decay": settings.weight_decay},
        {"params": [each for name, each in trained if not decays[name]], "weight_decay": 0.0},
    ]
    shape: dict[str, Any] = {"lr": settings.learning_rate, "betas": _BETAS, "eps": _EPSILON}
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, fused=True, **shape)
    in_8_bits: Any = importlib.import_module("bitsandbytes.optim")  # an extra of its own, and slow to import
    manager = in_8_bits.GlobalOptimManager.get_instance()
    for module in model.modules():
        if isinstance(module, nn.Embedding):  # whose rows are updated too unevenly for 8 bits
            manager.register_module_override(module, "weight", {"optim_bits": 32})
    optimizer: torch.optim.Optimizer = in_8_bits.AdamW(groups, optim_bits=8, **shape)
    return optimizer


def learning_rate(step: int, steps: int, settings: TrainingSettings) -> float:
    """Of a step, counted from 0: linear up to the peak at step `warmup_steps`, then down to nothing at step `steps`."""
    peak, warmup = settings.learning_rate, settings.warmup_steps
    if step < warmup:
        return peak * (step / warmup)
    if settings.schedule == "linear":
        return peak * ((steps - step) / (steps - warmup))
    return peak * 0.5 * (1 + math.cos(math.pi * ((step - warmup) / (steps - warmup))))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def clip(parameters: Iterable[nn.Parameter], most: float) -> Tensor:
    """Scale the gradients down to a norm of `most` where theirs is larger; their norm before, over all processes."""
    found = [parameter for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in found if parameter.grad is not None])
    if isinstance(norm, DTensor):
        norm = norm.full_tensor()
    torch.nn.utils.clip_grads_with_norm_(found, most, norm)
    return norm
