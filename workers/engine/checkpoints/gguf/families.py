"""The architectures of llama.cpp whose files are imported, by the name that the file has under `general.architecture`.

Each was compared with llama.cpp itself on a tiny random model, its logits and its tokens. An architecture that is not
here is refused by name; its safetensors checkpoint can be used instead.
"""

from __future__ import annotations

from collections.abc import Mapping

from workers.engine.checkpoints.gguf.family import Family
from workers.engine.checkpoints.gguf.gemma import GEMMA, GEMMA2, GEMMA3
from workers.engine.checkpoints.gguf.layer_norms import GPT2, NEMOTRON, STABLELM, STARCODER2
from workers.engine.checkpoints.gguf.llama import DECI, GRANITE, LLAMA
from workers.engine.checkpoints.gguf.phi import PHI3
from workers.engine.checkpoints.gguf.qwen import QWEN2, QWEN2_MOE, QWEN3, QWEN3_MOE

FAMILIES: Mapping[str, Family] = {
    "deci": DECI,
    "gemma": GEMMA,
    "gemma2": GEMMA2,
    "gemma3": GEMMA3,
    "gpt2": GPT2,
    "granite": GRANITE,
    "llama": LLAMA,
    "nemotron": NEMOTRON,
    "phi3": PHI3,
    "qwen2": QWEN2,
    "qwen2moe": QWEN2_MOE,
    "qwen3": QWEN3,
    "qwen3moe": QWEN3_MOE,
    "stablelm": STABLELM,
    "starcoder2": STARCODER2,
}
