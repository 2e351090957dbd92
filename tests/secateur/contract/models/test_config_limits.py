"""Configs that claim more than any model has, refused before anything is looped over."""

from __future__ import annotations

import math
from typing import Any

import pytest

from secateur.contract.errors import BadCheckpoint
from secateur.contract.models.config_limits import MAX_COUNT, check_config_limits
from secateur.contract.models.parameters import parameter_count
from secateur.foreign_files.json_objects import MAX_DEPTH, load_json_object

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 100,
}


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 10**9},
        {"n_layer": MAX_COUNT + 1},
        {"num_local_experts": 10**8},
        {"n_routed_experts": 10**8},
        {"num_attention_heads": 10**9},
        {"mtp_num_layers": 10**7},
        {"num_nextn_predict_layers": 10**7},
        {"num_labels": 10**9},
        {"decoder_layers": 10**7},
        {"vision_config": {"num_hidden_layers": 10**9}},
        {"layers_by_kind": [{"num_layers": 10**9}]},
        {"hidden_size": 2**41},
        {"max_position_embeddings": 10**30},
        {"sizes": [1, [2**50]]},
        {"vocab_size": -(2**50)},
    ],
)
def test_a_claim_beyond_every_model_is_named(changes: dict[str, Any]) -> None:
    with pytest.raises(BadCheckpoint, match=r"config\.json: ") as caught:
        check_config_limits({**LLAMA, **changes}, pointer="/config")
    (error,) = caught.value.errors
    assert error.pointer == "/config"
    assert next(iter(changes)) in error.detail
    assert error.expected is not None
    with pytest.raises(BadCheckpoint):
        parameter_count({**LLAMA, **changes})


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"rms_norm_eps": math.nan}, "rms_norm_eps"), ({"rope_scaling": {"factor": math.nan}}, "rope_scaling.factor")],
)
def test_what_is_no_number_is_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(BadCheckpoint, match=f"config.json: {named} is no number") as caught:
        check_config_limits({**LLAMA, **changes})
    assert caught.value.errors[0].value == "NaN"  # which JSON has no number for
    check_config_limits({**LLAMA, "time_step_limit": [0.0, math.inf]})  # as Mamba's configs have it


@pytest.mark.parametrize(
    "changes", [{}, {"max_position_embeddings": 10_485_760, "block_size": 2**20, "vocab_size": 2**24}]
)
def test_real_models_stay_below(changes: dict[str, Any]) -> None:
    check_config_limits({**LLAMA, **changes})


def test_lists_of_blocks_are_read_once_and_not_for_each_block() -> None:
    config = {**LLAMA, "model_type": "qwen2_moe", "num_key_value_heads": 4, "num_hidden_layers": MAX_COUNT}
    count = parameter_count({**config, "mlp_only_layers": list(range(100_000))})  # hours, if read for each
    assert count is not None
    assert len(count.blocks) == MAX_COUNT


def test_json_that_is_nested_without_end_is_refused() -> None:
    deep = b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH
    assert load_json_object(deep, "config.json")
    for raw in (b'{"a":' + deep + b"}", b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"):
        with pytest.raises(BadCheckpoint, match=r"within each other|not valid JSON"):
            load_json_object(raw, "config.json")


def test_an_entry_with_a_strange_name_is_told_in_one_line() -> None:
    with pytest.raises(BadCheckpoint) as found:
        check_config_limits({"\x1f\n" + "x" * 10_000: 2**41})
    assert found.value.detail.isprintable()
    assert len(found.value.detail) < 200


@pytest.mark.parametrize("key", ["attention_dropout", "resid_pdrop", "hidden_dropout"])
def test_a_dropout_is_a_probability(key: str) -> None:
    for value in (-0.1, 1.5, 9):
        with pytest.raises(BadCheckpoint, match=f"{key} is no probability") as caught:
            check_config_limits({"model_type": "llama", key: value})
        assert (caught.value.errors[0].value, caught.value.errors[0].expected) == (value, "a number from 0 to 1")
    for value in (0, 0.1, 1):
        check_config_limits({"model_type": "llama", key: value})


@pytest.mark.parametrize("key", ["rms_norm_eps", "layer_norm_epsilon", "norm_eps", "eps"])
def test_what_a_norm_takes_the_root_of_is_not_negative(key: str) -> None:
    with pytest.raises(BadCheckpoint, match=f"{key} is negative") as caught:
        check_config_limits({"model_type": "llama", key: -1.0})
    assert (caught.value.errors[0].value, caught.value.errors[0].expected) == (-1.0, "a small number, 0 or more")
    for value in (0, 1e-12, 1e-5):
        check_config_limits({"model_type": "llama", key: value})
