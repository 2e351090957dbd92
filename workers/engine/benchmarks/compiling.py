"""torch.compile and a static cache, as options of the latency benchmark.

Both change how every variant is run, never what it computes: the steps after the first token go through the compiled
model, the prompt through the plain one, as transformers' own generation does it. A static cache has its full size from
the start and is filled in place, so that shapes stay the same, which compiling needs: with a cache that grows, each
token would have a shape of its own.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Cache, PreTrainedModel, StaticCache

from app.errors import InvalidInput


@dataclass(frozen=True)
class Mode:
    """How the models of a benchmark are run, all alike."""

    compiled: bool = False  # with a static cache only
    static_cache: bool = False


PLAIN = Mode()


class Runner:
    """One model in a mode, for generations of one shape."""

    def __init__(self, model: PreTrainedModel, mode: Mode, *, capacity: int) -> None:
        """`capacity`: tokens that a sequence has at the end, prompt included."""
        self.model = model
        self.step: Any = model  # what the tokens after the first go through
        if mode.compiled:
            compile_in_process()
            self.step = torch.compile(model, dynamic=False)
        self._cache = StaticCache(config=model.config, max_cache_len=capacity) if mode.static_cache else None

    @torch.inference_mode()
    def new_cache(self) -> Cache | None:
        """What the next generation starts with; None lets the model make a cache that grows."""
        if self._cache is not None and self._cache.get_seq_length():
            self._cache.reset()  # type: ignore[no-untyped-call]  # no annotations upstream
        return self._cache


def compile_in_process() -> None:
    """Keep torch's compiler from starting worker processes, which would outlive a stage that is killed."""
    import torch._inductor.config as inductor  # takes a second, and most jobs compile nothing

    inductor.compile_threads = 1


def refuse_uncompilable(device: str, *, pointer: str = "/benchmark/latency/compile") -> None:
    """Say at once that this worker cannot compile.

    Args:
        device: "cpu", "cuda", "cuda:N" or "auto".

    Raises:
        InvalidInput: there is no C++ compiler on a CPU, or no Triton beside a GPU.
    """
    if device.startswith("cuda") or (device == "auto" and torch.cuda.is_available()):
        if importlib.util.find_spec("triton") is None:
            raise InvalidInput.field(
                pointer,
                "torch.compile needs Triton on a GPU, and this worker has none.",
                value=True,
                expected="false, or a worker with Triton",
            )
        return
    compiler = os.environ.get("CXX") or "g++"  # as torch's compiler looks for it
    if shutil.which(compiler) is None:
        raise InvalidInput.field(
            pointer,
            f'torch.compile needs a C++ compiler on a CPU, and this worker has no "{compiler}".',
            value=True,
            expected="false, or a worker with a C++ compiler (CXX names another one)",
        )
