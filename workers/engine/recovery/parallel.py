"""A model among the processes that train it together: whole in each of them, or a part of it in each.

Whole: DistributedDataParallel averages the gradients in the last pass of a step. In parts: FSDP2 (torch's
`fully_shard`) leaves each process the same share of every parameter, with its gradient and moments; a block is put
together when it is computed and taken apart again. Either way the gradients are those of one process but for the
rounding of sums. Why torch's own and not `accelerate`: docs/decisions/training-loop.md.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from workers.engine.architectures.registry import architecture_of


def spread(model: Any, *, ranks: int, device: torch.device, shard: bool) -> nn.Module:
    """What is called in place of `model`, in the group of so many processes; all have to come here.

    A model that is to be sharded may lie in the host's memory: its parts go to the device, block by block.
    """
    if shard:
        mesh = init_device_mesh(device.type, (ranks,))
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        for block in inner.get_submodule(architecture_of(inner.config).blocks_prefix).children():
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh, reshard_after_forward=True)  # or its parts stay whole after a validation
        return cast(nn.Module, model)
    # Unused parameters are looked for because gradients would be put into other buckets after the first step
    # otherwise, and a resumed training would add them up in another order. And samples may leave experts unused.
    return DistributedDataParallel(model, find_unused_parameters=True)


def gradients_kept_here(module: nn.Module) -> AbstractContextManager[object]:
    """For the passes of a step but the last: whole gradients are exchanged once, and parts, to stay such, in each."""
    return module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()


def local_part(tensor: Tensor) -> Tensor:
    """What this process holds of it."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def global_like(parameter: Tensor, part: Tensor) -> Tensor:
    """The reverse for a tensor that belongs to a parameter, element by element; any other is left as it is."""
    if not isinstance(parameter, DTensor) or part.dim() != parameter.dim():
        return part
    return DTensor.from_local(
        part.to(parameter.device),
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )


def make_whole(model: nn.Module) -> None:
    """Put a whole parameter on the CPU in place of each part; not filled, so what nobody fills takes no memory."""
    whole: dict[int, nn.Parameter] = {}  # a tied one stays tied
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if isinstance(parameter, DTensor):
                empty = torch.empty(parameter.shape, dtype=parameter.dtype)
                made = nn.Parameter(empty, requires_grad=parameter.requires_grad)
                setattr(module, name, whole.setdefault(id(parameter), made))
