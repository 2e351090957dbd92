"""A random mixture of experts in the middle of what fits everywhere, for `estimates.py`: some 150 million parameters.

    python benchmarks/random_mixture.py CHECKPOINT_FOLDER TARGET_FOLDER

The tokenizer is that of another checkpoint. Where a model is tiny, the libraries are most of a stage's memory, and an
estimate that leaves out the model itself would still come near.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

SIZES: dict[str, Any] = {
    "hidden_size": 512,
    "intermediate_size": 1536,
    "moe_intermediate_size": 384,
    "num_experts": 24,
    "num_experts_per_tok": 4,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "tie_word_embeddings": True,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer", type=Path, help="checkpoint whose tokenizer is taken")
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    own = json.loads((arguments.tokenizer / "config.json").read_text())
    ids = {name: own.get(name) for name in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")}
    torch.manual_seed(0)
    model = Qwen3MoeForCausalLM(Qwen3MoeConfig(**SIZES, **ids))
    model.save_pretrained(arguments.target)
    for file in arguments.tokenizer.glob("*token*"):
        shutil.copy(file, arguments.target)
    print(f"{sum(weight.numel() for weight in model.parameters()):,} parameters")


if __name__ == "__main__":
    main()
