"""This project's figures against plain transformers, and against sums by hand.

Perplexity: the same windows through `model(input_ids, labels)`, one at a time, the losses averaged over the predicted
tokens. Parameters, bytes and cache: from the sizes in config.json, by the formula of a Llama block, written out here.
Prints the pairs and one line of JSON; ends with an error where a pair differs.

    python benchmarks/against_transformers.py MODEL TEXT [--samples 4] [--tokens 128]
"""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import torch
from _inputs import load, parser
from torch import Tensor
from transformers import PreTrainedModel

from secateur.contract.results import TextInfo
from workers.engine.benchmarks.clock import ProcessorClock
from workers.engine.benchmarks.decoding import decode, random_prompt
from workers.engine.benchmarks.memory import cache_bytes, weight_bytes
from workers.engine.benchmarks.perplexity import perplexity, window_losses
from workers.engine.benchmarks.windows import Windows
from workers.engine.checkpoints.parameters import count_parameters
from workers.engine.model.block_model import BlockModel

TOLERANCE = 1e-3


def main() -> None:
    settings = parser(__doc__.splitlines()[0]).parse_args()
    model, ids = load(settings)
    text = TextInfo(description=settings.text.name, source="local", identity="", samples=len(ids), tokens=0, sha256="")
    windows = Windows(ids, text, "windows")
    ours = perplexity(window_losses(BlockModel.from_model(model), windows), windows).value
    plain = plain_perplexity(model, ids)
    config: Any = model.config
    by_hand = hand_computed(config.to_dict())
    prompt = random_prompt(model, sequences=1, tokens=8, seed=0)
    cache = decode(model, prompt, 5, ProcessorClock())
    pairs = {
        "perplexity": (ours, plain),
        "parameters": (count_parameters(config.to_dict()).total, by_hand["parameters"]),
        "weight_bytes": (weight_bytes(model), 4 * by_hand["parameters"] + buffer_bytes(model)),
        "kv_bytes_per_token": (cache_bytes(cache) // (8 + 5 - 1), by_hand["kv_bytes_per_token"]),
    }
    for name, (left, right) in pairs.items():
        print(f"{name}: {left} here, {right} {'by transformers' if name == 'perplexity' else 'by hand'}")
    agree = abs(ours - plain) <= TOLERANCE and all(a == b for n, (a, b) in pairs.items() if n != "perplexity")
    print(json.dumps({**{name: list(pair) for name, pair in pairs.items()}, "windows": len(ids), "agree": agree}))
    sys.exit(not agree)


@torch.no_grad()
def plain_perplexity(model: PreTrainedModel, ids: Tensor) -> float:
    """exp of the mean loss, as transformers' own loss has it for each window; all windows predict as many tokens."""
    losses = [float(model(input_ids=window, labels=window).loss) for window in ids.split(1)]  # type: ignore[no-untyped-call]  # Tensor.split has no annotations
    return math.exp(sum(losses) / len(losses))


def hand_computed(config: dict[str, Any]) -> dict[str, int]:
    """Parameters and fp32 cache of a Llama: embedding, blocks of four attention and three MLP matrices, norms, head."""
    hidden, inner, blocks = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    heads, shared = config["num_attention_heads"], config["num_key_value_heads"]
    size = config.get("head_dim") or hidden // heads
    attention = hidden * heads * size + 2 * hidden * shared * size + heads * size * hidden
    block = attention + 3 * hidden * inner + 2 * hidden
    embedding = config["vocab_size"] * hidden
    head = 0 if config["tie_word_embeddings"] else embedding
    return {
        "parameters": embedding + blocks * block + hidden + head,
        "kv_bytes_per_token": 2 * blocks * shared * size * 4,
    }


def buffer_bytes(model: PreTrainedModel) -> int:
    """What the model holds beside its parameters: the frequencies of the rotary embedding, once each."""
    return sum({buffer.data_ptr(): buffer.nbytes for buffer in model.buffers()}.values())


if __name__ == "__main__":
    main()
