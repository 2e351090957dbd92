"""vLLM, as a library: a batch of prompts as one call, timed from outside, as `vllm bench latency` does.

The time until the first token is that of a call which asks for one. https://docs.vllm.ai/en/latest/api/vllm/
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any


def load(asked: dict[str, Any]) -> tuple[str, Callable[[list[list[int]], int], tuple[float, float]]]:
    """The engine's build, and what generates: seconds until the first tokens, and until the last."""
    os.environ.update({"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"})
    vllm: Any = import_module("vllm")
    model = vllm.LLM(
        model=asked["model"],
        dtype=asked["dtype"],
        max_model_len=asked["tokens"],
        max_num_seqs=asked["sequences"],
        gpu_memory_utilization=asked["memory_share"],
        enable_prefix_caching=False,  # every round has the same prompt for all
        skip_tokenizer_init=True,
        seed=0,
    )

    def call(prompts: list[list[int]], tokens: int) -> float:
        sampling = vllm.SamplingParams(temperature=0.0, max_tokens=tokens, ignore_eos=True, detokenize=False)
        given = [{"prompt_token_ids": prompt} for prompt in prompts]
        began = time.perf_counter()
        answers = model.generate(given, sampling_params=sampling, use_tqdm=False)
        took = time.perf_counter() - began
        written = [len(answer.outputs[0].token_ids) for answer in answers]
        if written != [tokens] * len(prompts):
            raise RuntimeError(f"{written} tokens in place of {tokens} for each of {len(prompts)} prompts")
        return took

    return f"vLLM {vllm.__version__}", lambda prompts, tokens: (call(prompts, 1), call(prompts, tokens))
