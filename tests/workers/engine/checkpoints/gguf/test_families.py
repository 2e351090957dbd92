"""GGUF files of every family, as llama.cpp's converter writes them: the checkpoint computes what the model computed."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from secateur.contract.errors import BadCheckpoint, UnsupportedModel
from secateur.foreign_files import gguf_header as gguf
from tests.fixtures.gguf_models import WRITTEN, byte_tokenizer, tensors_of, tiny_model, write_model
from workers.engine.checkpoints.gguf.cuts import CUTS
from workers.engine.checkpoints.gguf.families import FAMILIES
from workers.engine.checkpoints.gguf_import import import_gguf, plan_import

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write(model, keys=…, tensors=…): the model as a GGUF file."""

    def make(model: PreTrainedModel, **more: Any) -> Path:
        if model.config.model_type == "qwen2":  # transformers gives every such model this cut
            more.setdefault("tokenizer", byte_tokenizer(model.config.vocab_size, pre="qwen2"))
        return write_model(tmp_path / "model.gguf", model, **more)

    return make


@pytest.fixture
def check(write: Write, tmp_path: Path) -> Callable[..., Any]:
    """check(model, keys=…): import the model's file, and hold its logits against the model's; gives the config."""

    def compare(model: PreTrainedModel, *, exact: bool = True, **more: Any) -> Any:
        import_gguf(write(model, **more), tmp_path / "checkpoint")
        loaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint", output_loading_info=True)
        back, info = loaded
        assert not info["missing_keys"]
        assert not info["unexpected_keys"]
        ids = torch.randint(3, 259, (2, 40), generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            before, after = model(ids).logits, back(ids).logits
        assert float(before.std()) > 0.3, "the model says something"
        assert torch.equal(before, after) if exact else torch.allclose(before, after, rtol=1e-3, atol=1e-3)
        return back.config

    return compare


CASES = [
    (model_type, tied)
    for model_type, written in WRITTEN.items()
    for tied in ((True, False) if written.tied is None else (written.tied,))
]


def test_every_family_is_tried() -> None:
    assert {written.architecture for written in WRITTEN.values()} == set(FAMILIES) - {"deci"}  # with its export


def test_a_submission_knows_the_same_names() -> None:
    assert set(FAMILIES) - {"deci"} == gguf.ARCHITECTURES, "no job begins with what has lost halves"
    assert set(CUTS) == gguf.CUTS


@pytest.mark.parametrize(("model_type", "tied"), CASES)
def test_the_model_is_the_same(model_type: str, tied: bool, check: Callable[..., Any]) -> None:
    config = check(tiny_model(model_type, tie_word_embeddings=tied))
    assert config.model_type == model_type
    assert config.tie_word_embeddings == tied


@pytest.mark.parametrize(
    ("model_type", "settings"),
    [
        ("llama", {"attention_bias": True}),
        ("llama", {"mlp_bias": True}),
        ("llama", {"attention_bias": True, "mlp_bias": True, "head_dim": 16}),
        ("llama", {"num_key_value_heads": 4}),
        ("granite", {"attention_bias": True, "mlp_bias": True}),
        ("qwen3", {"attention_bias": True}),
        ("qwen3_moe", {"attention_bias": True}),
        ("gemma3_text", {"final_logit_softcapping": 20.0}),
        ("gemma2", {"num_hidden_layers": 4, "attn_logit_softcapping": 20.0, "final_logit_softcapping": 10.0}),
        ("phi3", {"sliding_window": 7}),
        ("stablelm", {"qk_layernorm": True, "use_parallel_residual": True, "use_qkv_bias": False}),
        ("nemotron", {"attention_bias": True, "mlp_bias": True}),
    ],
)
def test_what_sets_a_model_apart_is_kept(model_type: str, settings: dict[str, Any], check: Callable[..., Any]) -> None:
    model = tiny_model(model_type, tie_word_embeddings=WRITTEN[model_type].tied is True, **settings)
    config = check(model)
    for key, value in settings.items():
        assert getattr(config, key) == value


def test_biases_of_queries_keys_and_values_alone(check: Callable[..., Any]) -> None:
    model = tiny_model("llama", attention_bias=True)
    tensors = {name: tensor for name, tensor in tensors_of(model).items() if not name.endswith("attn_output.bias")}
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.bias.zero_()
    check(model, tensors=tensors)


def scaled(kind: str, **more: Any) -> dict[str, Any]:
    return {"rope_type": kind, "rope_theta": 10000.0, **more}


@pytest.mark.parametrize(
    "model_type", ["llama", "qwen2", "qwen3", "mixtral", "granite", "gemma", "starcoder2", "stablelm"]
)
@pytest.mark.parametrize(
    ("scaling", "keys"),
    [
        (scaled("linear", factor=4.0), {"type": "linear", "factor": 4.0}),
        (scaled("linear", factor=4.0), {"factor": 4.0}),  # llama.cpp takes it for linear
        (
            scaled("yarn", factor=4.0, original_max_position_embeddings=16),
            {"type": "yarn", "factor": 4.0, "original_context_length": 16},
        ),
        (
            scaled(
                "yarn",
                factor=2.0,
                original_max_position_embeddings=32,
                attention_factor=0.7 * (1 + 0.1 * math.log(2)),
                beta_fast=16.0,
                beta_slow=2.0,
            ),
            {
                "type": "yarn",
                "factor": 2.0,
                "original_context_length": 32,
                "attn_factor": 0.7,
                "yarn_beta_fast": 16.0,
                "yarn_beta_slow": 2.0,
            },
        ),
    ],
)
def test_scaled_rotary_embeddings(
    model_type: str, scaling: dict[str, Any], keys: dict[str, Any], check: Callable[..., Any]
) -> None:
    partial = {"partial_rotary_factor": 0.5} if model_type == "stablelm" else {}
    heads = {"num_attention_heads": 2} | ({"head_dim": 16} if model_type in ("gemma", "mixtral") else {})
    settings: dict[str, Any] = {**heads, "rope_parameters": {**scaling, **partial}}
    model = tiny_model(model_type, tie_word_embeddings=WRITTEN[model_type].tied is True, **settings)
    check(model, keys={f"rope.scaling.{key}": value for key, value in keys.items()}, exact=False)


def test_linear_scaling_of_gemma3_is_of_its_full_blocks(check: Callable[..., Any]) -> None:
    rope = {"full_attention": scaled("linear", factor=8.0), "sliding_attention": scaled("default")}
    model = tiny_model("gemma3_text", rope_parameters=rope, tie_word_embeddings=True)
    check(model, keys={"rope.scaling.type": "linear", "rope.scaling.factor": 8.0})


def divisors(model: Any) -> np.ndarray[Any, Any]:
    """What Llama 3.1's converter writes as `rope_freqs.weight`."""
    size = model.config.head_dim
    plain = 1 / 10000.0 ** (np.arange(0, size, 2) / size)
    return np.asarray(plain / model.model.rotary_emb.inv_freq.numpy(), dtype=np.float32)


@pytest.mark.parametrize("size", [8, 16, 64])
@pytest.mark.parametrize(
    ("factor", "low", "high", "original"),
    [(8.0, 1.0, 4.0, 8192), (32.0, 1.0, 4.0, 8192), (8.0, 1.0, 4.0, 64), (4.0, 1.0, 8.0, 100), (16.0, 2.0, 3.0, 512)],
)
def test_llama3_divisors(
    size: int, factor: float, low: float, high: float, original: int, check: Callable[..., Any]
) -> None:
    rope = scaled(
        "llama3", factor=factor, low_freq_factor=low, high_freq_factor=high, original_max_position_embeddings=original
    )
    model = tiny_model("llama", rope_parameters=rope, head_dim=size)
    found = check(model, tensors={**tensors_of(model), "rope_freqs.weight": divisors(model)}, exact=False)
    assert found.rope_parameters["rope_type"] == "llama3"


def test_divisors_of_another_rule_are_refused(write: Write) -> None:
    model = tiny_model("llama", head_dim=16)
    for factors in ([1, 2, 3, 4, 4, 3, 2, 1], [1, 2, 1, 4, 4, 8, 8, 8], [1, 1, 1, 1, 1, 1, 1, -1], [8] * 8):
        tensors = {**tensors_of(model), "rope_freqs.weight": np.array(factors, dtype=np.float32)}
        with pytest.raises((UnsupportedModel, BadCheckpoint), match=r"rope_freqs\.weight"):
            plan_import(write(model, tensors=tensors))


@pytest.mark.parametrize("model_type", ["phi3", "llama"])
def test_divisors_of_longrope(model_type: str, check: Callable[..., Any]) -> None:
    long, short = [4.0, 5.0, 6.0, 8.0], [1.0, 1.1, 1.2, 1.5]
    rope = scaled(
        "longrope",
        long_factor=long,
        short_factor=short,
        attention_factor=1.2,
        original_max_position_embeddings=16,
        partial_rotary_factor=1.0,
    )
    more = {"original_max_position_embeddings": 16} if model_type == "phi3" else {}
    model = tiny_model(model_type, rope_parameters=rope, **more)
    tensors = {
        **tensors_of(model),
        "rope_factors_long.weight": np.array(long, dtype=np.float32),
        "rope_factors_short.weight": np.array(short, dtype=np.float32),
    }
    keys: dict[str, Any] = {"rope.scaling.attn_factor": 1.2, "rope.scaling.original_context_length": 16}
    if model_type == "llama":
        keys["rope.scaling.type"] = "longrope"
    check(model, tensors=tensors, keys=keys, exact=False)


@pytest.mark.parametrize("model_type", sorted(WRITTEN))
def test_every_missing_tensor_is_named(model_type: str, write: Write) -> None:
    model = tiny_model(model_type, tie_word_embeddings=WRITTEN[model_type].tied is not False)
    tensors = tensors_of(model)
    optional = {"output.weight"}  # a file without a head is tied
    for lost in [name for name in tensors if name.startswith("blk.1.") or not name.startswith("blk.")]:
        if lost in optional:
            continue
        rest = {name: tensor for name, tensor in tensors.items() if name != lost}
        with pytest.raises((BadCheckpoint, UnsupportedModel), match=lost.replace(".", r"\.")):
            plan_import(write(model, tensors=rest))


@pytest.mark.parametrize("model_type", sorted(WRITTEN))
def test_a_tensor_without_a_place_is_named(model_type: str, write: Write) -> None:
    model = tiny_model(model_type, tie_word_embeddings=WRITTEN[model_type].tied is True)
    tensors = tensors_of(model)
    for name in ("blk.1.attn_sinks.weight", "blk.0.exp_probs_b.bias", "output.bias", "blk.2.ffn_gate.0.weight", "x"):
        more = {**tensors, name: np.ones(32, dtype=np.float32)}
        with pytest.raises(UnsupportedModel, match=name.replace(".", r"\.")):
            plan_import(write(model, tensors=more))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attention.scale", 0.5),
        ("logit_scale", 0.25),
        ("attention.sliding_window", 5),
        ("attention.clamp_kqv", 8.0),
        ("attention.causal", False),
        ("expert_weights_scale", 2.5),
        ("rope.scaling.attn_factor", 1.5),
        ("rope.dimension_count", 4),
        ("attention.value_length", 4),
        ("attention.head_count_kv", [2, 2, 1]),
        ("something.new", 1),
        ("rope.scaling.type", "dynamic"),
    ],
)
def test_a_key_that_matters_and_has_no_place_is_named(key: str, value: Any, write: Write) -> None:
    with pytest.raises((UnsupportedModel, BadCheckpoint)) as found:
        plan_import(write(tiny_model("llama"), keys={key: value}))
    assert key in found.value.detail or str(value) in found.value.detail, found.value.detail


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attention.scale", 0.0),
        ("attention.causal", True),
        ("expert_count", 0),
        ("attention.sliding_window", 64),
        ("attention.head_count_kv", [2, 2, 2]),
        ("rope.scaling.type", "none"),
        ("rope.scaling.finetuned", True),
        ("vocab_size", 300),
    ],
)
def test_a_key_that_changes_nothing_is_taken(key: str, value: Any, check: Callable[..., Any]) -> None:
    check(tiny_model("llama"), keys={key: value})


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("block_count", 2, "block_count is 2, and the tensors make up 3"),
        ("block_count", 30_000_000, "make up 3 blocks"),
        ("block_count", None, "block_count"),
        ("embedding_length", 64, "dimensions of a head"),
        ("feed_forward_length", 1 << 30, "make up"),
        ("attention.head_count", 1 << 30, "dimensions of a head"),
        ("attention.head_count", 0, "0 heads"),
        ("attention.layer_norm_rms_epsilon", None, "layer_norm_rms_epsilon"),
        ("rope.freq_base", 0.0, "base"),
        ("expert_count", 1 << 30, "expert"),
        ("context_length", 0, "context_length' is 0"),
    ],
)
def test_numbers_that_the_tensors_do_not_bear_out(key: str, value: Any, words: str, write: Write) -> None:
    with pytest.raises((BadCheckpoint, UnsupportedModel), match=words):
        plan_import(write(tiny_model("llama"), keys={key: value}))


@pytest.mark.parametrize("key", ["attn_logit_softcapping", "final_logit_softcapping"])
def test_a_cap_of_zero_is_no_usual_cap(key: str, write: Write) -> None:
    with pytest.raises(BadCheckpoint, match=f"{key}' is 0"):
        plan_import(write(tiny_model("gemma2", tie_word_embeddings=True), keys={key: 0.0}))


def test_a_head_that_is_the_embedding_again_is_tied(check: Callable[..., Any]) -> None:
    model = tiny_model("gpt2", tie_word_embeddings=True)
    tensors = tensors_of(model)
    config = check(model, tensors={**tensors, "output.weight": tensors["token_embd.weight"]})
    assert config.tie_word_embeddings


def test_other_architectures_are_named(write: Write) -> None:
    file = write(tiny_model("llama"))
    file.write_bytes(file.read_bytes().replace(b"llama", b"mamba"))
    with pytest.raises(UnsupportedModel, match="architecture 'mamba'"):
        plan_import(file)
