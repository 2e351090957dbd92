"""llama.cpp through `llama-cpp-python`: tokens as its generator yields them.

https://github.com/abetlen/llama-cpp-python
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from itertools import islice
from typing import Any


def load(asked: dict[str, Any]) -> tuple[str, Callable[[list[list[int]], int], tuple[float, float]]]:
    """The engine's build, and what generates: seconds until the first token, and until the last."""
    llama_cpp: Any = import_module("llama_cpp")
    model = llama_cpp.Llama(
        model_path=asked["model"],
        n_ctx=asked["tokens"],
        n_threads=asked["threads"],
        n_threads_batch=asked["threads"],
        n_gpu_layers=-1 if asked["gpu"] else 0,
        verbose=False,
    )

    def generate(prompts: list[list[int]], tokens: int) -> tuple[float, float]:
        [prompt] = prompts
        model.reset()  # so that nothing of the prompt is in its cache
        began = time.perf_counter()
        written = model.generate(prompt, temp=0.0)
        next(written)
        first = time.perf_counter()
        if len(list(islice(written, tokens - 1))) != tokens - 1:
            raise RuntimeError(f"fewer than {tokens} tokens")
        return first - began, time.perf_counter() - began

    return f"llama-cpp-python {version('llama_cpp_python')}", generate
