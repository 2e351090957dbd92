"""Which device a process computes on, and whether that device works.

`auto` is a GPU where there is one. It is the CPU only where there is none: a GPU that is there and that torch cannot
use (a driver too old for this torch, a card that no kernel was built for, a driver that waits for another service) ends
the stage with torch's own reason. Without that, a broken driver would show as nothing but a stage that takes very long.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import torch

from secateur.contract.errors import DeviceFailed, StageFailed
from secateur.contract.estimates.rough import Speed
from secateur.contract.protocol import WorkingDevice
from workers.engine.device_speed import measure_speed
from workers.machine import memory
from workers.machine.processor import processor

logger = logging.getLogger(__name__)

_NO_GPU = (
    "found no nvidia driver",
    "no cuda gpus are available",
    "no cuda-capable device",
)  # torch's words, in lower case
_FAILED = (
    "cuda error",
    "cuda driver",
    "cuda unknown error",
    "cuda initialization",
    "cudnn error",
    "cublas_status",
    "nccl error",
)
_HIDDEN = ("", "-1", "NoDevFiles")  # values of CUDA_VISIBLE_DEVICES under which there is no GPU
_SIDE = 64  # of the matrices that a probe multiplies
_DEV = Path("/dev")


def choose_device(name: str) -> torch.device:
    """The device that a worker's setting names. Starts CUDA in this process, unless it is the CPU's.

    Args:
        name: "auto", "cpu", "cuda" or "cuda:N". Of several GPUs one is made visible, so that no library spreads
            over the others.

    Raises:
        StageFailed: no device has such a name.
        DeviceFailed: the GPU is not there, or torch cannot use it.
    """
    kind, _, index = name.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and not (kind == "cuda" and index.isdigit())) or name == "cuda:":
        raise StageFailed(f'The worker\'s SECATEUR_DEVICE is "{name}"; expected auto, cpu, cuda or cuda:N.')
    if kind == "cpu":
        return torch.device("cpu")
    _show_one(int(index or 0))
    reason = _why_unusable()
    if reason is None:
        return torch.device("cuda:0")
    there = _gpu_nodes()
    if kind == "auto" and not torch.cuda._is_compiled():  # a torch for CPUs was installed; that was somebody's choice
        if there:
            logger.warning("this machine has a GPU, which is not used: %s; the stage computes on the CPU", reason)
        return torch.device("cpu")
    if kind == "auto" and not there and any(words in reason.lower() for words in _NO_GPU):
        return torch.device("cpu")
    raise DeviceFailed(
        f'The worker\'s SECATEUR_DEVICE is "{name}", and torch {torch.__version__} cannot use the GPU: {reason}'
        + (" To compute on the CPU all the same, set SECATEUR_DEVICE=cpu on the worker." if kind == "auto" else "")
    )


def auto_dtype(device: torch.device) -> torch.dtype:
    """What the models compute in unless the spec says otherwise."""
    return torch.float32 if device.type == "cpu" else torch.bfloat16


def probe(name: str, *, threads: int = 0) -> WorkingDevice:
    """Compute something on the device that the setting names, and see whether it is right, and how fast it was.

    Args:
        threads: CPU threads of torch, as stages have them; 0 leaves torch's own choice.

    Raises:
        StageFailed, DeviceFailed: as `choose_device`; or the device computes wrongly, or not at all.
    """
    device = choose_device(name)
    if threads:
        torch.set_num_threads(threads)
    dtype = auto_dtype(device)
    speed = Speed(0, 0)
    kind, right = "cpu", True
    name, size = processor(), memory.machine_memory()
    try:
        if device.type == "cuda":
            major, minor = torch.cuda.get_device_capability(device)
            name, size = torch.cuda.get_device_name(device), torch.cuda.get_device_properties(device).total_memory
            kind = f"{name} {major}.{minor}"
        ones = torch.ones(_SIDE, _SIDE, dtype=dtype, device=device)
        right = bool(((ones @ ones).cpu() == _SIDE).all())
        speed = measure_speed(device, dtype)
    except torch.OutOfMemoryError:
        pass  # other stages have its memory: it works
    except RuntimeError as error:
        raise DeviceFailed(f'The worker\'s device ("{name}") does not compute: {error}') from error
    if not right:
        raise DeviceFailed(f'The worker\'s device ("{name}") computes wrongly: it was seen to multiply matrices badly.')
    setting = name if ":" in name else device.type
    used = str(dtype).removeprefix("torch.")
    return WorkingDevice(
        setting=setting, kind=kind, dtype=used, name=name, memory=size, flops=speed.flops, weights_read=speed.read
    )


def is_device_failure(error: BaseException) -> bool:
    """Whether an exception says that the GPU or its driver failed. That its memory is full is not such a failure."""
    if isinstance(error, torch.OutOfMemoryError):
        return False
    return isinstance(error, torch.AcceleratorError) or (
        isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _FAILED)
    )


def _show_one(wanted: int) -> None:
    """Make one card the only one that this process sees: CUDA reads the variable when it starts."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if torch.cuda.is_initialized() or visible in _HIDDEN:  # type: ignore[no-untyped-call]  # no annotations upstream
        return
    names = visible.split(",") if visible is not None else None
    if names is not None and wanted >= len(names):
        raise DeviceFailed(
            f'The worker\'s SECATEUR_DEVICE is "cuda:{wanted}", but CUDA_VISIBLE_DEVICES leaves it {len(names)} '
            f"({visible}), which are counted from 0."
        )
    os.environ["CUDA_VISIBLE_DEVICES"] = names[wanted] if names is not None else str(wanted)


def _why_unusable() -> str | None:
    """Torch's words for why it cannot use a GPU; None if it can."""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]  # no annotations upstream
    except (AssertionError, RuntimeError, torch.cuda.DeferredCudaCallError) as error:
        return f"{str(error).strip().rstrip('.')}."
    return None


def _gpu_nodes() -> bool:
    """Whether the machine shows a GPU to this process, whatever torch says of it."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in _HIDDEN:
        return False
    return any(path.name[len("nvidia") :].isdigit() for path in _DEV.glob("nvidia[0-9]*"))
