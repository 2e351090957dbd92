"""Which GGUF files can be imported, as far as their first keys tell: known without torch, so that a submission is told.

The stage looks at everything (`workers/engine/checkpoints/gguf_import.py`); its tables have these names too.
"""

from __future__ import annotations

# `general.architecture`
ARCHITECTURES = frozenset(
    [
        "gemma",
        "gemma2",
        "gemma3",
        "gpt2",
        "granite",
        "llama",
        "nemotron",
        "phi3",
        "qwen2",
        "qwen2moe",
        "qwen3",
        "qwen3moe",
        "stablelm",
        "starcoder2",
    ]
)
# `tokenizer.ggml.model`: byte-level, and as sentencepiece has it
TOKENIZERS = frozenset({"gpt2", "llama"})
# `tokenizer.ggml.pre`, how a byte-level tokenizer cuts text before its merges
CUTS = frozenset(
    [
        "codeshell",
        "command-r",
        "dbrx",
        "deepseek-r1-qwen",
        "default",
        "exaone",
        "falcon",
        "falcon-h1",
        "falcon3",
        "gigachat",
        "gpt-2",
        "gpt-4o",
        "granite-docling",
        "hunyuan",
        "jais",
        "lfm2",
        "llama-bpe",
        "llama-v3",
        "llama3",
        "llama4",
        "megrez",
        "midm-2.0",
        "minerva-7b",
        "mpt",
        "olmo",
        "phi-2",
        "pixtral",
        "qwen2",
        "refact",
        "smaug-bpe",
        "smollm",
        "stablelm2",
        "starcoder",
        "tekken",
        "trillion",
    ]
)


def cannot_be_imported(keys: dict[str, str | int]) -> str | None:
    """Why a file with these keys cannot be imported, in a phrase; None if nothing that is seen speaks against it."""
    architecture = keys.get("general.architecture")
    kind = keys.get("tokenizer.ggml.model")
    cut = keys.get("tokenizer.ggml.pre")
    if architecture is not None and architecture not in ARCHITECTURES:
        return f"GGUF files of the architecture {architecture!r} are not imported"
    if keys.get("general.type", "model") != "model":
        return f"the file holds no model, but its general.type is {keys['general.type']!r}"
    if keys.get("split.count", 0) not in (0, 1):
        return "the file is one part of a split model; merge the parts first"
    if kind is not None and kind not in TOKENIZERS:
        return f"the tokenizer is of the kind {kind!r}, which is not known here"
    if kind == "gpt2" and cut is not None and cut not in CUTS:
        return f"the key 'tokenizer.ggml.pre' says {cut!r}, which is not known here, of how text is cut"
    return None
