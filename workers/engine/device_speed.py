"""How fast the device multiplies: what a time is told by where no stage like it has run yet.

Two figures are enough. Scoring, healing and training multiply matrices of many tokens, and take the time of their
arithmetic. Writing text and timed generation read every weight for one token or few, and take the time of that reading.
Each is the best of some tries, since other stages only ever make a try slower.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from secateur.contract.estimates.rough import Speed

TRIES = 4
SIDE = {"cpu": 1024, "cuda": 8192}  # of two square matrices, of which the CPU multiplies 2 Gflop
WEIGHTS = 1 << 25  # read for one token: more bytes than a cache keeps


@torch.no_grad()
def measure_speed(device: torch.device, dtype: torch.dtype) -> Speed:
    """Take both figures, in well under a second.

    Raises:
        torch.OutOfMemoryError: others have the device's memory.
    """
    side = SIDE[device.type]
    matrix = torch.ones(side, side, dtype=dtype, device=device)
    products = _best(lambda: matrix @ matrix, device)
    weights = torch.ones(4096, WEIGHTS // 4096, dtype=dtype, device=device)
    token = torch.ones(WEIGHTS // 4096, dtype=dtype, device=device)
    reading = _best(lambda: weights @ token, device)
    return Speed(flops=2 * side**3 / products, read=weights.nbytes / reading)


def _best(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of the quickest try; the first one, which starts libraries, does not count."""
    seconds = []
    for _ in range(TRIES):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    return max(min(seconds[1:]), 1e-9)
