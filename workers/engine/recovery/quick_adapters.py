"""What peft computes for an adapter, in fewer and cheaper passes over memory, while adapters are trained.

Adapters hardly count in arithmetic: at rank 8 a hundredth of their map's. On a CPU they count in time, on SmolLM2 for a
sixth of a training step, for two reasons. Dropout draws one random number for every number of the input of every
projection; here one draw of 64 bits decides about four of them. And the adapter's product, as wide as the map's own,
is scaled and then added in passes of their own; here the scale is put on the few numbers in the middle, and the sum is
left to the product (`addmm`).

Only plain LoRA is replaced; variants such as DoRA stay as peft has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import LoraVariant
from torch import Tensor, nn

_LANES = 4  # random numbers of 16 bits in a draw of 64
_STEPS = 1 << 16  # of their range: a rate of dropout is rounded to one of these
_LEAST = torch.iinfo(torch.int64).min


@contextmanager
def quick_adapters(model: nn.Module) -> Iterator[None]:
    """Let the adapters within `model` compute so while the context is open."""
    changed: list[tuple[Any, str]] = []
    try:
        for layer in model.modules():
            if isinstance(layer, LoraLayer):
                for name in set(layer.lora_A) - set(layer.lora_variant):
                    if layer.lora_B[name].bias is None:
                        layer.lora_variant[name] = _Quick()
                        changed.append((layer, name))
        yield
    finally:
        for layer, name in changed:
            del layer.lora_variant[name]


class _Quick(LoraVariant):
    @staticmethod
    def forward(module: Any, active_adapter: str, x: Tensor, result: Tensor, **_: Any) -> Tensor:
        """W x + scaling · B A dropout(x); x is in the adapter's dtype, the result W x maybe in another."""
        down, up = module.lora_A[active_adapter], module.lora_B[active_adapter]
        rate = module.lora_dropout[active_adapter]
        if isinstance(rate, nn.Dropout) and rate.training:
            x = dropped(x, rate.p)
        middle = down(x) * module.scaling[active_adapter]
        if result.dtype != middle.dtype or torch.is_autocast_enabled(x.device.type):
            summed: Tensor = result + up(middle)
            return summed
        wide: Tensor = torch.addmm(result.flatten(0, -2), middle.flatten(0, -2), up.weight.T)
        return wide.view(result.shape)


def dropped(x: Tensor, rate: float) -> Tensor:
    """Dropout (Srivastava et al. 2014): a number is 0 with probability `rate`, else divided by 1 - rate."""
    if x.device.type != "cpu":
        return F.dropout(x, rate)  # one kernel there
    found: Tensor = _Dropped.apply(x, rate)  # type: ignore[no-untyped-call]  # no annotations upstream
    return found


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rate: float) -> Tensor:
        silent = min(round(rate * _STEPS), _STEPS - 1)
        draws = torch.empty(-(-x.numel() // _LANES), dtype=torch.int64).random_(_LEAST, None)
        lanes = draws.view(torch.int16)[: x.numel()].view(x.shape)
        kept = (lanes >= silent - _STEPS // 2).to(x.dtype).mul_(_STEPS / (_STEPS - silent))
        ctx.save_for_backward(kept)
        return x * kept

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return gradients[0] * kept, None
