"""Sound little files of every kind that users hand in, for `fuzz_readers.py` to damage."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import pyarrow
import pyarrow.parquet
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from workers.engine.checkpoints.checkpoint import CONFIG_FILE, INDEX_FILE

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
SHARD = "model-1-of-2.safetensors"
WIDTH, BLOCKS, ROWS = 32, 3, 300

_TASK = """\
task: little
dataset_path: json
dataset_kwargs:
  data_files:
    validation: rows.jsonl
output_type: multiple_choice
validation_split: validation
doc_to_text: "{{question}}"
doc_to_target: answer
doc_to_choice: ["a", "b"]
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1.0
"""


def write_all(folder: Path) -> None:
    """The checkpoint with its tokenizer, a GGUF file, a task definition, and rows in two forms."""
    folder.mkdir(parents=True)
    _write_checkpoint(folder / "checkpoint")
    _write_gguf(folder / "tiny.gguf")
    (folder / "task.yaml").write_text(_TASK)
    rows = [{"instruction": f"say {number}", "input": "", "output": f"number {number}"} for number in range(8)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "rows.parquet", row_group_size=4)


def _write_checkpoint(path: Path) -> None:
    path.mkdir()
    hidden = 8
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": hidden, "intermediate_size": 16,
        "num_hidden_layers": BLOCKS, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 12,
        "tie_word_embeddings": True, "rms_norm_eps": 1e-5, "max_position_embeddings": 32, "dtype": "bfloat16",
        "rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}, "eos_token_id": [1, 2],
    }  # fmt: skip
    (path / CONFIG_FILE).write_text(json.dumps(config))
    shapes = {
        "self_attn.q_proj": (8, 8),
        "self_attn.k_proj": (4, 8),
        "self_attn.v_proj": (4, 8),
        "mlp.up_proj": (16, 8),
    }
    shards: list[dict[str, torch.Tensor]] = [{"model.embed_tokens.weight": torch.ones(12, hidden)}, {}]
    for block in range(BLOCKS):
        for part, shape in shapes.items():
            shards[block % 2][f"model.layers.{block}.{part}.weight"] = torch.ones(shape, dtype=torch.bfloat16)
    names = [f"model-{number}-of-2.safetensors" for number in (1, 2)]
    for name, tensors in zip(names, shards, strict=True):
        save_file(tensors, path / name, metadata={"format": "pt"})
    weight_map = {tensor: name for name, tensors in zip(names, shards, strict=True) for tensor in tensors}
    (path / INDEX_FILE).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    _tokenizer().save_pretrained(path)


def _tokenizer() -> PreTrainedTokenizerFast:
    words = ["<s>", "</s>", "h", "e", "l", "o", "Ġ", "he", "ll", "hell", "a", "b"]
    raw = Tokenizer(
        models.BPE(
            vocab={word: number for number, word in enumerate(words)},
            merges=[("h", "e"), ("l", "l"), ("he", "ll")],
        )
    )
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([AddedToken(word, special=True) for word in words[:2]])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # no annotations upstream
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>"
    )


def _write_gguf(path: Path) -> None:
    """A Llama that can be imported: matrices in Q8_0, norms in float32."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_block_count(BLOCKS)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(4)
    writer.add_array("llama.attention.head_count_kv", [4] * BLOCKS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(2.0)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<s>", "</s>", *alphabet, "he", "ll"]
    tokens += [f"token {number}" for number in range(ROWS - len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3] + [1] * (ROWS - 2))
    writer.add_token_merges(["h e", "l l"])
    writer.add_eos_token_id(1)

    def matrix(name: str, rows: int) -> None:
        packed = np.zeros((rows, WIDTH // 32 * 34), dtype=np.uint8)
        writer.add_tensor(name, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)

    matrix("token_embd.weight", ROWS)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, dtype=np.float32))
    for block in range(BLOCKS):
        for part in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
            matrix(f"blk.{block}.{part}.weight", WIDTH)
        for part in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{block}.{part}.weight", np.ones(WIDTH, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
