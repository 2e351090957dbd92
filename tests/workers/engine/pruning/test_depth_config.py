"""The config after depth pruning: every per-layer entry follows the kept blocks, and what cannot follow is refused."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from secateur.contract.errors import UnsupportedModel
from secateur.contract.models.architecture import Architecture
from secateur.contract.models.families import FAMILIES
from workers.engine.architectures.config import as_config
from workers.engine.architectures.registry import architecture_of
from workers.engine.pruning.depth_config import keep_blocks, portraits

TINY: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 60,
    "max_position_embeddings": 64,
    "head_dim": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SLIDING, FULL = "sliding_attention", "full_attention"
EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}


def pruned(config: dict[str, Any], keep: Sequence[int]) -> dict[str, Any]:
    return keep_blocks(config, keep, architecture_of(config))


def check_by_running(before: dict[str, Any], after: dict[str, Any], keep: Sequence[int]) -> None:
    """Both models with the same weights: the shorter equals the longer with its other blocks bypassed."""

    def build(config: dict[str, Any]) -> Any:
        entries = {key: value for key, value in config.items() if key != "model_type"}
        # the auto classes carry no annotations
        made = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            AutoConfig.for_model(config["model_type"], **entries)
        )
        return made.eval()

    torch.manual_seed(0)
    long = build(before)
    short = build(after)
    prefix = architecture_of(before).blocks_prefix + "."
    state: dict[str, Tensor] = {}
    for name, tensor in long.state_dict().items():
        number, _, rest = name.removeprefix(prefix).partition(".")
        if not name.startswith(prefix):
            state[name] = tensor
        elif int(number) in keep:
            state[f"{prefix}{keep.index(int(number))}.{rest}"] = tensor
    short.load_state_dict(state)
    stack = long.get_submodule(prefix[:-1])
    for number in range(len(stack)):
        if number not in keep:
            stack[number].register_forward_hook(
                lambda module, args, kwargs, output: (
                    (args[0], *output[1:])
                    if isinstance(output, tuple)
                    else (args[0] if args else kwargs["hidden_states"])
                ),
                with_kwargs=True,
            )
    ids = torch.randint(3, 60, (2, 14), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(short(ids, use_cache=False).logits, long(ids, use_cache=False).logits)


CASES: dict[str, tuple[dict[str, Any], list[int], dict[str, Any]]] = {
    "periodic sliding windows are written out": (
        {**TINY, "model_type": "gemma3_text", "sliding_window": 5, "sliding_window_pattern": 3},
        [0, 2, 3, 5],
        {"layer_types": [SLIDING, FULL, SLIDING, FULL], "sliding_window_pattern": None},
    ),
    "only full layers kept stays full": (
        {**TINY, "model_type": "gemma2", "sliding_window": 5},
        [1, 3, 5],
        {"layer_types": [FULL, FULL, FULL]},
    ),
    "cohere2": (
        {**TINY, "model_type": "cohere2", "sliding_window": 5, "sliding_window_pattern": 3},
        [2, 3, 5],
        {"layer_types": [FULL, SLIDING, FULL], "sliding_window_pattern": None},
    ),
    "max_window_layers counts the kept": (
        {**TINY, "model_type": "qwen2", "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 3},
        [0, 2, 4, 5],
        {"layer_types": [FULL, FULL, SLIDING, SLIDING], "max_window_layers": 2},
    ),
    "blocks without rotary embeddings": (
        {**TINY, "model_type": "smollm3", "no_rope_layer_interval": 3},
        [0, 2, 5],
        {"no_rope_layers": [1, 0, 0]},
    ),
    "GPT-Neo's run lengths": (
        {
            "model_type": "gpt_neo", "hidden_size": 32, "num_layers": 6, "num_heads": 4, "vocab_size": 60,
            "max_position_embeddings": 64, "window_size": 4, "attention_types": [[["global", "local"], 3]],
        },
        [0, 3, 4],
        {"attention_layers": ["global", "local", "global"], "num_layers": 3},
    ),
    "every second block is a mixture of experts": (
        {**TINY, **EXPERTS, "model_type": "qwen2_moe", "decoder_sparse_step": 2, "mlp_only_layers": [3],
         "shared_expert_intermediate_size": 24},
        [1, 2, 3, 5],
        {"decoder_sparse_step": 1, "mlp_only_layers": [1, 2]},
    ),
    "dense blocks by number": (
        {**TINY, **EXPERTS, "model_type": "qwen3_moe", "mlp_only_layers": [0, 4]},
        [1, 4, 5],
        {"mlp_only_layers": [1]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_entries_follow_the_kept_blocks(case: str) -> None:
    config, keep, expected = CASES[case]
    result = pruned(config, keep)
    assert {key: result.get(key) for key in expected} == expected
    assert config == CASES[case][0]
    check_by_running(config, result, keep)


def test_leading_dense_blocks() -> None:
    config = {
        **TINY,
        "model_type": "deepseek_v3",
        "first_k_dense_replace": 3,
        "num_nextn_predict_layers": 1,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
        "moe_intermediate_size": 16,
        "q_lora_rank": 8,
        "kv_lora_rank": 8,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 8,
        "num_key_value_heads": 4,
    }
    result = pruned(config, [0, 2, 3, 5])
    assert result["first_k_dense_replace"] == 2
    assert result["num_nextn_predict_layers"] == 0
    assert result["num_hidden_layers"] == 4
    check_by_running(config, result, [0, 2, 3, 5])


def test_synonyms_of_the_layer_count_follow() -> None:
    config = {"model_type": "gpt2", "n_embd": 32, "n_layer": 6, "n_head": 4, "vocab_size": 60, "num_hidden_layers": 6}
    result = pruned(config, [0, 1])
    assert result["n_layer"] == result["num_hidden_layers"] == 2


def test_code_that_comes_with_a_checkpoint_is_not_named() -> None:
    config = {**TINY, "model_type": "llama", "auto_map": {"AutoModelForCausalLM": "modeling.X"}}
    assert "auto_map" not in pruned(config, [0])


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (
            {"model_type": "gpt2", "n_embd": 32, "n_layer": 6, "n_head": 4, "scale_attn_by_inverse_layer_idx": True},
            "scales attention by the block's number",
        ),
        ({**TINY, "model_type": "diffllama"}, "Block 2 would work differently as block 1: its self_attn.lambda_init"),
        ({**TINY, "model_type": "llama", "num_kv_shared_layers": 2}, "shares keys and values between blocks"),
    ],
)
def test_models_whose_blocks_know_their_number(config: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UnsupportedModel, match=sentence):
        pruned(config, [0, 2, 3])


def test_quantiser_settings_follow() -> None:
    settings = {
        "quant_method": "fp8",
        "modules_to_not_convert": ["lm_head", "model.layers.1.mlp", "model.layers.4.mlp"],
    }
    config = {**TINY, "model_type": "llama", "quantization_config": settings}
    written = pruned(config, [0, 4])["quantization_config"]
    assert written == {"quant_method": "fp8", "modules_to_not_convert": ["lm_head", "model.layers.1.mlp"]}


# What each list may hold; a row that names another list needs its entries here.
ENTRIES: dict[str, list[Any]] = {"layer_types": [SLIDING, FULL], "no_rope_layers": [0, 1]}
LISTED = [row.architecture for row in FAMILIES if not row.architecture.layer_index_lists]


@pytest.mark.parametrize("row", LISTED, ids=lambda row: row.family)
def test_nothing_but_the_lists_tells_blocks_apart(
    row: Architecture, make_model: Callable[..., PreTrainedModel]
) -> None:
    """Why these families are pruned without building a model: equal entries make equal blocks, whatever the numbers."""
    generator = random.Random(0)
    kinds: dict[tuple[Any, ...], dict[str, Any]] = {}
    for _ in range(4):
        patterns = {name: generator.choices(ENTRIES[name], k=9) for name in row.per_layer_lists}
        config = make_model(row.model_types[0], num_hidden_layers=9, **patterns).config
        written = config.to_dict()
        for number, portrait in enumerate(portraits(config, row)):
            kind = tuple(written[name][number] for name in row.per_layer_lists)
            assert kinds.setdefault(kind, portrait) == portrait
    assert len(kinds) == 2 ** len(row.per_layer_lists)


@pytest.mark.parametrize("row", [row for row in LISTED if row.pattern_keys], ids=lambda row: row.family)
def test_each_pattern_stands_in_a_list(row: Architecture) -> None:
    """A number from which the class derives a pattern shows in a list that is written out."""
    for key in row.pattern_keys:
        config = {**TINY, "model_type": row.model_types[0], "use_sliding_window": True, "sliding_window": 5, key: 2}
        full = as_config(config).to_dict()
        changed = as_config({**config, key: 3}).to_dict()
        lists = {name for name in row.per_layer_lists if full[name] != changed[name]}
        differs = {name for name in full if full[name] != changed.get(name)}
        assert differs <= {key, f"_{key}", *lists}
