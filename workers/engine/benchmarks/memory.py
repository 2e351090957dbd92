"""Memory of a model: its weights, the peak while it generates, and what each token of context costs.

On a GPU the peak is that of torch's allocator. On a CPU it is the process's resident set, libraries included, with
this model alone in it; Linux lets a process reset the high-water mark of its own (`/proc/self/clear_refs`), and
where that is refused, a thread samples.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import Cache, PreTrainedModel

from secateur.contract.measurements import Memory
from workers.engine.benchmarks.clock import clock_for
from workers.engine.benchmarks.decoding import decode, random_prompt
from workers.engine.model.loading import free_memory

SAMPLE_SECONDS = 0.002
_RESET_PEAK = "5"  # man 5 proc: writes 5 to clear_refs to reset VmHWM


def measure_memory(
    model: PreTrainedModel, *, batch_size: int, input_tokens: int, output_tokens: int, seed: int
) -> Memory:
    """Measure on one generation. No other model should be in the process."""
    prompt = random_prompt(model, sequences=batch_size, tokens=input_tokens, seed=seed)
    free_memory()
    if prompt.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(prompt.device)
        cache = decode(model, prompt, output_tokens, clock_for(prompt.device))
        peak, measured_as = torch.cuda.max_memory_allocated(prompt.device), "CUDA allocator"
    else:
        with _watch_resident() as watch:
            cache = decode(model, prompt, output_tokens, clock_for(prompt.device))
        peak, measured_as = watch.peak, watch.name
    return Memory(
        weights=weight_bytes(model),
        peak=peak,
        kv_bytes_per_token=cache_bytes(cache) // (batch_size * (input_tokens + output_tokens - 1)),
        measured_as=measured_as,
    )


def weight_bytes(model: PreTrainedModel) -> int:
    """Bytes of parameters and buffers in memory; what is shared, such as a tied head, counts once."""
    held = {tensor.data_ptr(): tensor.nbytes for tensor in (*model.parameters(), *model.buffers()) if tensor.numel()}
    return sum(held.values())


def cache_bytes(cache: Cache) -> int:
    """Bytes of keys and values that a cache holds."""
    layers: list[Any] = cache.layers
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in layers if layer.keys is not None)


class _Watch:
    peak = 0
    name = "resident set size"


@contextmanager
def _watch_resident() -> Iterator[_Watch]:
    watch = _Watch()
    try:
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
    except OSError:
        with _sampled(watch):
            yield watch
        return
    yield watch
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    watch.peak = int(fields["VmHWM"].split()[0]) * 1024


@contextmanager
def _sampled(watch: _Watch) -> Iterator[None]:
    process, done = psutil.Process(), threading.Event()

    def sample() -> None:
        while not done.wait(SAMPLE_SECONDS):
            watch.peak = max(watch.peak, process.memory_info().rss)

    thread = threading.Thread(target=sample, daemon=True)
    watch.peak, watch.name = process.memory_info().rss, "resident set size, sampled"
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        watch.peak = max(watch.peak, process.memory_info().rss)
