"""Tiny random models of every family, made from the family's own config class, and tokens for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

VOCABULARY = 96

_LLAMA_LIKE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
_EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}

# What to set beside _LLAMA_LIKE, or in its place where the family's names differ. Sliding windows are shorter than
# the samples, so that they matter.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {**_LLAMA_LIKE, "tie_word_embeddings": True},
    "mistral": {**_LLAMA_LIKE, "sliding_window": 5},
    "mixtral": {**_LLAMA_LIKE, "num_local_experts": 4, "num_experts_per_tok": 2},
    "gemma": {**_LLAMA_LIKE, "head_dim": 16},
    "gemma2": {**_LLAMA_LIKE, "head_dim": 16, "sliding_window": 5},
    "gemma3_text": {
        **_LLAMA_LIKE,
        "head_dim": 16,
        "sliding_window": 5,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    },
    "qwen2": {**_LLAMA_LIKE, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 2},
    "qwen3": {**_LLAMA_LIKE, "head_dim": 16},
    "qwen2_moe": {
        **_LLAMA_LIKE,
        **_EXPERTS,
        "shared_expert_intermediate_size": 24,
        "mlp_only_layers": [1],
    },
    "qwen3_moe": {**_LLAMA_LIKE, **_EXPERTS, "head_dim": 16, "mlp_only_layers": [2]},
    "phi3": {**_LLAMA_LIKE, "pad_token_id": 0, "sliding_window": 5},
    "olmo2": dict(_LLAMA_LIKE),
    "gpt2": {"n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 64},
    "opt": {
        "hidden_size": 32,
        "ffn_dim": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "word_embed_proj_dim": 32,
        "max_position_embeddings": 64,
    },
    "gpt_neox": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
    },
    "smollm3": {**_LLAMA_LIKE, "no_rope_layers": [1, 1, 0, 1], "pad_token_id": 0},
    "granite": {**_LLAMA_LIKE, "residual_multiplier": 0.5, "logits_scaling": 2.0},
    "falcon": {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4},
    "stablelm": dict(_LLAMA_LIKE),
}


@pytest.fixture(autouse=True, scope="session")
def _few_threads() -> Iterator[None]:
    """Tiny matrices: more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=sorted(FAMILIES))
def family(request: pytest.FixtureRequest) -> str:
    """The model type of each family in turn."""
    return cast(str, request.param)


@pytest.fixture(scope="session")
def make_model() -> Callable[..., PreTrainedModel]:
    """make_model("llama", num_hidden_layers=6, seed=1): a tiny random model, in evaluation mode."""

    def make(model_type: str = "llama", *, seed: int = 0, **settings: Any) -> PreTrainedModel:
        tokens = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2}
        config = AutoConfig.for_model(model_type, **{**FAMILIES[model_type], **tokens, **settings})
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            # the auto classes carry no annotations
            model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
            with torch.no_grad():  # far from the initial state, so that blocks differ and no norm is all ones
                for parameter in model.parameters():
                    parameter.add_(torch.randn_like(parameter) * 0.08)
        return cast(PreTrainedModel, model.eval())

    return make


@pytest.fixture(scope="session")
def make_ids() -> Callable[..., Tensor]:
    """make_ids(samples, tokens, seed=…): random token ids."""

    def make(samples: int = 3, tokens: int = 12, *, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(3, VOCABULARY, (samples, tokens), generator=generator)

    return make


@pytest.fixture
def save_model(tmp_path: Path) -> Callable[..., Path]:
    """save_model(model, max_shard_size="20KB"): the model as a checkpoint folder."""

    def save(model: PreTrainedModel, *, name: str = "checkpoint", **settings: Any) -> Path:
        path = tmp_path / name
        model.save_pretrained(path, **settings)
        return path

    return save


@pytest.fixture(scope="session")
def write_gguf() -> Callable[..., Path]:
    """write_gguf(path, model, quantisation="Q8_0"): a tiny Llama as a GGUF file, with a byte-level tokenizer.

    The vocabulary has 261 tokens or more. Matrices are quantised, norms stay float32, a tied head is left out, as
    llama.cpp's converter does it.
    """
    # heavy and only wanted here
    import gguf
    from gguf.quants import quantize
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    names = {
        "input_layernorm": "attn_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "post_attention_layernorm": "ffn_norm",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }

    def interleave(weight: Tensor, heads: int) -> Tensor:
        """llama.cpp pairs neighbouring rotary dimensions, transformers the two halves of a head."""
        return weight.view(heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)

    def write(path: Path, model: PreTrainedModel, *, quantisation: str = "F32", **extra: Any) -> Path:
        config: Any = model.config
        kind = gguf.GGMLQuantizationType[quantisation]
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_block_count(config.num_hidden_layers)
        writer.add_context_length(config.max_position_embeddings)
        writer.add_embedding_length(config.hidden_size)
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count(config.num_attention_heads)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_rope_freq_base(10000.0)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_vocab_size(config.vocab_size)
        writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
        letters = bytes_to_unicode().values()  # type: ignore[no-untyped-call]  # the library has no annotations here
        tokens = ["<unk>", "<s>", "</s>", *letters, "he", "ll"]
        tokens += [f"<extra{number}>" for number in range(config.vocab_size - len(tokens))]
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("default")
        writer.add_token_list(tokens)
        writer.add_token_types([3, 3, 3] + [1] * (config.vocab_size - 3))
        writer.add_token_merges(["h e", "l l"])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_unk_token_id(0)
        writer.add_chat_template("{% for m in messages %}{{ m['content'] }}{% endfor %}")
        for key, values in extra.items():  # "llama__attention__x" for "llama.attention.x"
            writer.add_array(key.replace("__", "."), values)
        for name, tensor in model.state_dict().items():
            if name == "lm_head.weight" and config.tie_word_embeddings:
                continue
            new = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}.get(
                name
            )
            if name == "lm_head.weight":
                new = "output.weight"
            if new is None:
                _, _, block, part = name.removesuffix(".weight").split(".", 3)
                new = f"blk.{block}.{names[part]}.weight"
                if part == "self_attn.q_proj":
                    tensor = interleave(tensor, config.num_attention_heads)
                elif part == "self_attn.k_proj":
                    tensor = interleave(tensor, config.num_key_value_heads)
            values = tensor.float().numpy()
            if values.ndim == 2 and quantisation != "F32":
                writer.add_tensor(new, quantize(values, kind), raw_dtype=kind)
            else:
                writer.add_tensor(new, values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return write
