"""llama.cpp through `xllamacpp`: its server within the process, and the times that this tells of each completion.

https://github.com/xorbitsai/xllamacpp
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from typing import Any


def load(asked: dict[str, Any]) -> tuple[str, Callable[[list[list[int]], int], tuple[float, float]]]:
    """The engine's build, and what generates: seconds until the first token, and until the last."""
    xllamacpp: Any = import_module("xllamacpp")
    parameters = xllamacpp.CommonParams()
    parameters.model.path = asked["model"]
    parameters.n_ctx, parameters.n_parallel = asked["tokens"], 1
    parameters.warmup = parameters.fit_params = False
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = asked["threads"]
    if not asked["gpu"]:
        parameters.n_gpu_layers = 0
    server = xllamacpp.Server(parameters)

    def generate(prompts: list[list[int]], tokens: int) -> tuple[float, float]:
        [prompt] = prompts
        body = {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "cache_prompt": False}
        answer = server.handle_completions(body)
        if "timings" not in answer:
            raise RuntimeError(str(answer))
        times = answer["timings"]
        if (times["prompt_n"], times["predicted_n"]) != (len(prompt), tokens):
            raise RuntimeError(
                f"{times['prompt_n']} + {times['predicted_n']} tokens in place of {len(prompt)} + {tokens}"
            )
        read = times["prompt_ms"] / 1000
        return read, read + times["predicted_ms"] / 1000

    return f"xllamacpp {version('xllamacpp')}", generate
