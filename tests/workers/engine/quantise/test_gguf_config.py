"""What a config says and a GGUF file can say comes back from it; what it cannot say is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from transformers import PreTrainedModel

from secateur.contract.errors import UnsupportedModel
from secateur.contract.models.families import model_types
from tests.fixtures.gguf_models import tiny_model
from tests.workers.engine.quantise.test_gguf_export import QWEN2_CUT, byte_level
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.gguf_import import import_gguf
from workers.engine.model.loading import load_model
from workers.engine.quantise.gguf_config import ARCHITECTURES
from workers.engine.quantise.gguf_export import export_gguf, refuse_unsupported

IDS = torch.randint(3, 259, (2, 24), generator=torch.Generator().manual_seed(0))
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
TIED = {"tie_word_embeddings": True}
FULL, WINDOW = ["full_attention"], ["sliding_attention"]
# Name → type and settings of a model; `llama.cpp` is asked of the same ones in `test_gguf_against_llama_cpp.py`.
SAID: dict[str, tuple[str, dict[str, Any]]] = {
    "biases of attention": ("llama", {"attention_bias": True}),
    "biases of the MLP": ("llama", {"mlp_bias": True}),
    "all biases, more heads of keys": ("llama", {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 4}),
    "heads of their own size": ("qwen3", {"head_dim": 24}),
    "linear": ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0}}),
    "linear of qwen2": ("qwen2", {"rope_parameters": {"rope_type": "linear", "factor": 4.0}}),
    "yarn": ("llama", {"rope_parameters": YARN}),
    "yarn of qwen3": ("qwen3", {"rope_parameters": YARN}),
    "yarn with a factor": ("llama", {"rope_parameters": {**YARN, "attention_factor": 0.8}}),
    "yarn with two scales": ("llama", {"rope_parameters": {**YARN, "mscale": 1.0, "mscale_all_dim": 0.5}}),
    "yarn with its ends": ("llama", {"rope_parameters": {**YARN, "beta_fast": 8.0, "beta_slow": 2.0}}),
    "llama3": ("llama", {"rope_parameters": LLAMA3, "head_dim": 16}),
    "experts": ("mixtral", {}),
    "experts, scaled": ("mixtral", {"rope_parameters": YARN, "head_dim": 8}),
    "experts beside a shared one": ("qwen2_moe", {}),
    "experts of qwen3": ("qwen3_moe", {}),
    "leftovers of a mixture": ("llama", {"num_experts_per_tok": 2, "shared_expert_intermediate_size": 0}),
    "experts beside a leftover": ("mixtral", {"shared_expert_intermediate_size": 0}),
    "a leftover of blocks with windows": (
        "llama",
        {"rope_parameters": {"rope_type": "default", "full_attention": {"rope_type": "default", "rope_theta": 1e6}}},
    ),
    "gemma": ("gemma", TIED),
    "gemma, linear": ("gemma", {**TIED, "rope_parameters": {"rope_type": "linear", "factor": 4.0}}),
    "gemma2": ("gemma2", {**TIED, "num_hidden_layers": 4}),
    "gemma2 with other caps": ("gemma2", {**TIED, "attn_logit_softcapping": 20.0, "final_logit_softcapping": 10.0}),
    "gemma3": ("gemma3_text", TIED),
    "gemma3 with a period of 3": (
        "gemma3_text",
        {**TIED, "layer_types": (WINDOW * 2 + FULL) * 2, "num_hidden_layers": 6},
    ),
    "gemma3, all windows": ("gemma3_text", {**TIED, "layer_types": WINDOW * 4, "num_hidden_layers": 4}),
    "gemma3, no windows": ("gemma3_text", {**TIED, "layer_types": FULL * 3, "num_hidden_layers": 3}),
}


def make(name: str, folder: Path) -> PreTrainedModel:
    """The model, and its checkpoint in `folder`."""
    model_type, settings = SAID[name]
    if "rope_parameters" in settings:
        settings = {**settings, "rope_parameters": {"rope_theta": 10000.0, **settings["rope_parameters"]}}
    model = tiny_model(model_type, **settings)
    model.save_pretrained(folder)
    # transformers reads the tokenizer of every qwen2 model as Qwen's
    byte_level(cut=QWEN2_CUT if model_type == "qwen2" else None, begins=False).save_pretrained(folder)
    return model


@pytest.mark.parametrize("name", SAID)
def test_the_file_means_the_same_model(name: str, tmp_path: Path) -> None:
    model: Any = make(name, tmp_path / "model")
    refuse_unsupported(Checkpoint.open(tmp_path / "model"), tokenizer_from=None)
    export_gguf(Checkpoint.open(tmp_path / "model"), tmp_path / "out" / "model.gguf", kind="F16")
    import_gguf(tmp_path / "out" / "model.gguf", tmp_path / "back")
    back: Any = load_model(Checkpoint.open(tmp_path / "back"), device=torch.device("cpu"), dtype=torch.float32)
    with torch.no_grad():
        before, after = model(IDS).logits.log_softmax(-1), back(IDS).logits.log_softmax(-1)
    kl = (before.exp() * (before - after)).sum(-1)
    # float16 rounds, which may send a token to another expert; without the biases, scalings or experts it is 0.01 to 3
    assert float(kl.median()) < 1e-4


@pytest.mark.parametrize(
    ("model_type", "settings", "reason"),
    [
        ("phi3", {}, "not written as GGUF"),
        ("gemma2", {"query_pre_attn_scalar": 64}, "scaled by 64, and llama.cpp scales it by 16"),
        ("gemma3_text", {"layer_types": [*FULL, *WINDOW * 2, *FULL, *WINDOW * 3]}, "no period"),
        ("gemma3_text", {"attn_logit_softcapping": 50.0}, "attention are capped"),
        ("gemma2", {"layer_types": FULL * 3}, "No block has a sliding window"),
        ("gemma2", {"final_logit_softcapping": None}, "no caps"),
        ("gemma", {"use_bidirectional_attention": True}, "sees what follows"),
        ("mistral", {"sliding_window": 5}, "sliding window"),
        ("qwen3", {"attention_bias": True}, "biases"),
        ("llama", {"hidden_act": "gelu"}, "activation"),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, 'scaled \\("dynamic"\\)'),
        ("qwen2", {"rope_parameters": LLAMA3}, 'scaled \\("llama3"\\), which is not written as GGUF for this type'),
        ("llama", {"rope_parameters": {**YARN, "truncate": False}}, "whole dimensions"),
        ("llama", {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "part of each head"),
        ("qwen3_moe", {"norm_topk_prob": False}, "norm_topk_prob is False"),
        ("qwen3_moe", {"mlp_only_layers": [1]}, "no mixture"),
    ],
)
def test_models_that_would_be_read_as_others_are_refused(
    model_type: str, settings: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    source = tmp_path / "model"
    gemma = model_type.startswith("gemma")
    tiny_model(model_type if gemma else "llama", **(TIED if gemma else {})).save_pretrained(source)
    config = json.loads((source / "config.json").read_text())
    if "rope_parameters" in settings:
        settings = {**settings, "rope_parameters": {"rope_theta": 10000.0, **settings["rope_parameters"]}}
    (source / "config.json").write_text(json.dumps({**config, "model_type": model_type, **settings}))
    with pytest.raises(UnsupportedModel, match=reason) as caught:
        export_gguf(Checkpoint.open(source), tmp_path / "out" / "model.gguf", kind="Q8_0")
    assert caught.value.errors[0].pointer == "kind"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("model_type", model_types(written_as_gguf=True))
def test_a_family_that_is_written_has_a_name_that_llama_cpp_knows(model_type: str) -> None:
    assert ARCHITECTURES[model_type] in gguf.MODEL_ARCH_NAMES.values()
    assert model_type in {said for said, _ in SAID.values()} | {"mistral"}  # whose classes compute what Llama's do
