"""What goes, by arithmetic: whole blocks, halves, and what is not certain before the scores are there."""

from __future__ import annotations

from typing import Any

import pytest

from secateur.contract.errors import InvalidInput
from secateur.contract.estimates.model import KnownModel, Stored, known_model
from secateur.contract.estimates.removal import Removal, read_for_a_token, removal_of
from secateur.contract.estimates.sizes import original_size, pruned_size, speedup_by_bytes
from secateur.contract.spec import CompressionSpec
from tests.fixtures.smollm2 import BLOCK, HEAD, PARAMETERS, SMOLLM2_CONFIG


def spec_of(plus: bool = True, **pruning: Any) -> CompressionSpec:
    body: dict[str, Any] = {"model": {"source": "hub", "id": "a/b"}, "pruning": pruning, "recovery": {"kind": "none"}}
    return CompressionSpec.model_validate(body | ({} if plus else {"scoring": {"plus": False}}))


def known(config: dict[str, Any] = SMOLLM2_CONFIG, stored: Stored | None = None) -> KnownModel:
    found = known_model(config, stored)
    assert found is not None
    return found


def taken(model: KnownModel, **pruning: Any) -> Removal:
    found = removal_of(spec_of(**pruning), model)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "pruning",
    [
        {"blocks": 6},
        {"ratio": 0.2},
        {"drop": [0, 9, 10, 11, 12, 29]},
        {"target": {"parameters": 115_000_000}},
        {"target": {"bytes": 0.85}},
    ],
)
def test_six_blocks_of_smollm2(pruning: dict[str, Any]) -> None:
    model = known()
    removal = taken(model, kind="depth", **pruning)
    before, after = original_size(model, width=4), pruned_size(model, removal, width=4)
    assert (before.parameters, after.parameters) == (PARAMETERS, PARAMETERS - 6 * BLOCK)
    assert (before.bytes, after.bytes) == (2 * before.parameters, 2 * after.parameters)  # bfloat16 on disk
    assert (before.kv_bytes_per_token, after.kv_bytes_per_token) == (30 * 2 * 3 * 64 * 4, 24 * 2 * 3 * 64 * 4)
    assert (before.blocks, after.blocks, removal.exact) == (30, 24, True)
    read = 30 * BLOCK + HEAD + 576
    assert read_for_a_token(model) == read
    assert speedup_by_bytes(model, removal) == pytest.approx(read / (read - 6 * BLOCK))


def test_half_of_the_tokens_of_smollm2() -> None:
    model = known()
    removal = taken(model, kind="vocabulary", tokens=24_576, text={"source": "local", "path": "news.txt"})
    assert (removal.parameters, removal.read, removal.blocks, removal.cache) == (HEAD // 2, HEAD // 2, 0, 0)
    assert removal.exact
    assert pruned_size(model, removal, width=2).bytes == 2 * (PARAMETERS - HEAD // 2)
    read = 30 * BLOCK + HEAD + 576
    assert speedup_by_bytes(model, removal) == pytest.approx(read / (read - HEAD // 2))
    untied = known({**SMOLLM2_CONFIG, "tie_word_embeddings": False})
    removal = taken(untied, kind="vocabulary", tokens=24_576, text={"source": "local", "path": "news.txt"})
    assert (removal.parameters, removal.read) == (HEAD, HEAD // 2)


def test_halves() -> None:
    model = known()
    mlp = 3 * 576 * 1536 + 576
    attentions = taken(model, kind="sub_block", units=5, only="attention")
    assert (attentions.parameters, attentions.cache, attentions.exact) == (5 * (BLOCK - mlp), 5, True)
    assert pruned_size(model, attentions, width=2).blocks == 30
    named = taken(model, kind="sub_block", drop=["3.attention", "4.mlp", "4.attention"])
    assert (named.parameters, named.cache, named.exact) == (BLOCK + BLOCK - mlp, 2, True)
    either = taken(model, kind="sub_block", units=4)
    assert either.exact is False
    assert either.parameters - either.spread <= 4 * (BLOCK - mlp)
    assert either.parameters + either.spread >= 4 * mlp


def test_a_budget_of_joint_pruning_is_known_but_for_the_last_part() -> None:
    model = known()
    whole = model.count.total
    removal = taken(model, kind="joint", target={"parameters": 0.8})
    assert removal.exact is False
    assert removal.parameters == pytest.approx(whole - int(0.8 * whole), abs=1)
    assert removal.spread == BLOCK - (3 * 576 * 1536 + 576), "an attention, with its norm"
    assert removal.cache == pytest.approx(removal.parameters / BLOCK, rel=1e-6)
    assert removal_of(spec_of(kind="joint", target={"memory": 0.8}), model) is None
    in_bytes = taken(model, kind="joint", target={"bytes": 0.8})
    assert in_bytes.parameters == pytest.approx(removal.parameters, abs=1)
    assert in_bytes.bytes == pytest.approx(2 * removal.parameters, abs=2)
    with pytest.raises(InvalidInput, match="even without all that may go"):
        removal_of(spec_of(kind="joint", target={"parameters": 0.1}), model)


def test_blocks_that_differ_are_not_certain_unless_they_are_named() -> None:
    config = {
        "model_type": "qwen2_moe",
        **{"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4},
        **{"num_key_value_heads": 2, "vocab_size": 64, "num_experts": 4, "num_experts_per_tok": 2},
        **{"moe_intermediate_size": 16, "shared_expert_intermediate_size": 24, "mlp_only_layers": [1]},
    }
    model = known(config)
    sizes = [block.total for block in model.count.blocks]
    assert sizes[1] != sizes[0] == sizes[2]
    dropped = removal_of(spec_of(kind="depth", drop=[1, 2]), model)
    assert dropped is not None
    assert (dropped.parameters, dropped.exact) == (sizes[1] + sizes[2], True)
    scored = removal_of(spec_of(plus=False, kind="depth", blocks=1), model)
    assert scored is not None
    assert scored.exact is False
    assert {scored.parameters - scored.spread <= size <= scored.parameters + scored.spread for size in sizes} == {True}


def test_what_a_token_does_not_go_to_is_not_read() -> None:
    config = {
        "model_type": "mixtral",
        **{"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4},
        **{"num_key_value_heads": 2, "vocab_size": 64, "num_local_experts": 8, "num_experts_per_tok": 2},
    }
    model = known(config)
    expert = 3 * 32 * 48 + 32
    idle = 2 * 6 * expert
    assert read_for_a_token(model) == model.count.total - idle - model.count.embedding
    removal = taken(model, kind="experts", experts=3)
    assert (removal.parameters, removal.read) == (2 * 3 * expert, 0)
    assert speedup_by_bytes(model, removal) == 1


def test_bytes_are_those_of_the_files_where_they_were_seen() -> None:
    stored = Stored(tuple(range(100, 130)), outside=1000)
    removal = taken(known(stored=stored), kind="depth", drop=[0, 29])
    assert pruned_size(known(stored=stored), removal, width=4).bytes == stored.total - 100 - 129


def test_what_the_model_cannot_lose_is_told_as_at_a_submission() -> None:
    with pytest.raises(InvalidInput) as found:
        taken(known(), kind="depth", blocks=25)
    assert found.value.errors[0].pointer == "/pruning/blocks"


def test_what_is_not_known() -> None:
    assert known_model({"model_type": "mamba"}) is None
    assert known({**SMOLLM2_CONFIG, "quantization_config": {"quant_method": "gptq"}}).stored is None
    bare = known({key: value for key, value in SMOLLM2_CONFIG.items() if key != "torch_dtype"})
    assert bare.stored is not None
    assert (bare.stored.total, len(bare.notes)) == (4 * PARAMETERS, 1)
