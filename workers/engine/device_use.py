"""What this process holds of its GPUs, and how busy the current one is."""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib.util import find_spec

from secateur.contract.protocol import DeviceUse

_ASKS_THE_DRIVER = find_spec("pynvml") is not None  # of `nvidia-ml-py`, by which torch asks


def device_use() -> DeviceUse | None:
    """None where the process has not begun to compute on a GPU: this neither imports torch nor starts CUDA."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    cards = range(torch.cuda.device_count())
    busy = None
    if _ASKS_THE_DRIVER:
        # A driver that does not tell, as of a part of a GPU (MIG), raises `pynvml.NVMLError`, which is no RuntimeError.
        with suppress(Exception):
            busy = torch.cuda.utilization() / 100
    return DeviceUse(
        memory=sum(map(torch.cuda.memory_reserved, cards)),
        peak=sum(map(torch.cuda.max_memory_reserved, cards)),
        busy=busy,
    )
