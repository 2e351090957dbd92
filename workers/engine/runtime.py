"""Where and how a stage computes: device, dtype, threads, seeds, and the same bits from the same work.

A job that is run twice on one machine must give the same weights, since a killed recovery is resumed in the middle
and nobody should be able to tell. So torch is asked for deterministic algorithms and every generator is seeded.
Where an operation has no deterministic form torch warns, and the warning stands in the job's log.
"""

from __future__ import annotations

import os
import platform
import random
from dataclasses import dataclass

import numpy as np
import torch

from secateur.contract.results import Environment
from workers.engine.device import auto_dtype, choose_device
from workers.machine import memory
from workers.machine.libraries import versions
from workers.machine.processor import processor

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Machine:
    """What a stage computes with."""

    device: torch.device
    dtype: torch.dtype  # of the models' arithmetic
    threads: int
    seed: int


def prepare(*, device: str = "auto", dtype: str = "auto", threads: int = 0, seed: int = 0) -> Machine:
    """Set this process up and say what was chosen.

    Args:
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N". Of several GPUs one is made visible,
            so that no library spreads over the others.
        dtype: "auto" (float32 on a CPU, bfloat16 on a GPU), "float32", "bfloat16" or "float16".
        threads: CPU threads of torch; 0 leaves torch's own choice.
        seed: of every generator of the process.

    Raises:
        StageFailed, DeviceFailed: the device is unknown, not there, or cannot be used.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts; without it, no determinism
    chosen = choose_device(device)
    if threads:
        torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling fresh memory costs time and changes no result; torch.utils.deterministic has no stubs.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    seed_everything(seed)
    return Machine(chosen, auto_dtype(chosen) if dtype == "auto" else _DTYPES[dtype], torch.get_num_threads(), seed)


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and torch's generators, on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # libraries draw from the global generator
    torch.manual_seed(seed)


def environment(machine: Machine) -> Environment:
    """Where and with what this process measures."""
    name = processor() if machine.device.type == "cpu" else torch.cuda.get_device_name(machine.device)
    return Environment(
        device=str(machine.device),
        device_name=name,
        dtype=str(machine.dtype).removeprefix("torch."),
        threads=machine.threads,
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        versions=versions(),
    )


def available_memory(device: torch.device) -> int:
    """Bytes that new tensors on the device can have: of the GPU, or for a CPU of what the stage may still take."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return memory.left()


def visible_gpus(device: str) -> list[str]:
    """The GPUs that a worker with this device may use, as CUDA_VISIBLE_DEVICES names them; `cuda:N` begins with N.

    They are counted in a process of its own: one that has started CUDA cannot choose among them any more, nor fork.
    """
    kind, _, index = device.partition(":")
    if kind == "cpu":
        return []
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, str(torch.cuda.device_count()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as answer:
        count = int(answer.read() or 0)
    os.waitpid(child, 0)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(number) for number in range(count)]
    return names[:count][int(index) if index.isdigit() else 0 :]
