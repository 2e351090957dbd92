"""Mixtures of many families through check and prune: pruned, or refused with a field, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secateur.contract.errors import BadCheckpoint, InvalidInput, UnsupportedModel
from secateur.contract.spec import CompressionSpec
from tests.fixtures.whole_job import SHORT_SPEC, Job

CALIBRATION = {"samples": 2, "tokens": 16, "text": {"source": "local", "path": "words.txt"}}
KINDS: dict[str, dict[str, Any]] = {
    "experts": {"kind": "experts", "ratio": 0.5, "calibration": CALIBRATION},
    "sub_block": {"kind": "sub_block", "units": 2, "calibration": CALIBRATION},
    "flap": {"kind": "flap", "ratio": 0.25, "calibration": CALIBRATION},
}
_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
_LATENT = {
    **{"n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1, "num_key_value_heads": 4},
    **{"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8},
}
_LOCAL = {"num_local_experts": 4, "num_experts_per_tok": 2}

# By family: its tiny config, and what can be pruned of it.
FAMILIES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "deepseek_v2": ({**_EXPERTS, **_LATENT, "n_group": 1, "topk_group": 1}, {"experts", "sub_block"}),
    "deepseek_v3": ({**_EXPERTS, **_LATENT, "n_group": 2, "topk_group": 1}, {"sub_block"}),
    "qwen2_moe": ({**_EXPERTS, "num_experts": 4, "shared_expert_intermediate_size": 24}, {"experts", "sub_block"}),
    "granitemoe": (_LOCAL, {"experts", "sub_block"}),
    "jamba": ({**_LOCAL, "num_experts": 4}, set()),
    "phimoe": (_LOCAL, {"experts", "sub_block"}),
    "gpt_oss": ({**_LOCAL, "head_dim": 16}, {"experts", "sub_block"}),
    "llama4_text": (
        {
            **_LOCAL,
            "num_experts_per_tok": 1,
            "intermediate_size_mlp": 48,
            "head_dim": 8,
            "interleave_moe_layer_step": 2,
        },
        {"sub_block"},
    ),
}


@pytest.mark.thorough
@pytest.mark.parametrize("family", FAMILIES)
def test_a_mixture_is_pruned_or_refused_with_a_field(
    family: str, tiny_checkpoint: Callable[..., Path], text_file: Path
) -> None:
    settings, expected = FAMILIES[family]
    root = tiny_checkpoint(model_type=family, num_hidden_layers=3, tie_word_embeddings=False, **settings).parent
    pruned, fields = set(), []
    for kind, pruning in KINDS.items():
        spec = CompressionSpec.model_validate({**SHORT_SPEC, "pruning": pruning, "recovery": {"kind": "none"}})
        job = Job(root, spec, work=kind, data_roots=(text_file.parent,))
        try:
            job.run("check")
        except InvalidInput as refused:
            fields.append({error.pointer.split("/")[1] for error in refused.errors})
        else:
            job.run("prune")
            pruned.add(kind)
    assert pruned == expected
    assert all(named and named <= {"model", "pruning"} for named in fields)


def test_a_family_that_takes_no_adapters_is_told_before_anything_is_pruned(
    tiny_checkpoint: Callable[..., Path],
) -> None:
    settings = {**_EXPERTS, "num_experts": 4, "num_dense_layers": 1, "head_dim": 8}
    root = tiny_checkpoint(model_type="afmoe", num_hidden_layers=3, tie_word_embeddings=False, **settings).parent
    spec = CompressionSpec.model_validate({**SHORT_SPEC, "pruning": {"kind": "depth", "drop": [1]}})
    with pytest.raises(UnsupportedModel, match="No adapters can be put on a afmoe model") as caught:
        Job(root, spec).run("check")
    assert [error.pointer for error in caught.value.errors] == ["/model"]


def test_shapes_that_do_not_go_together_are_told_before_anything_is_computed(
    tiny_checkpoint: Callable[..., Path],
) -> None:
    settings = {**_EXPERTS, "n_routed_experts": 4, "first_k_dense_replace": 1, "n_shared_experts": 1}
    root = tiny_checkpoint(model_type="mimo_v2_flash", num_hidden_layers=4, num_key_value_heads=4, **settings).parent
    spec = CompressionSpec.model_validate({**SHORT_SPEC, "pruning": {"kind": "depth", "drop": [1]}})
    with pytest.raises(BadCheckpoint, match="cannot be run, by its entry") as caught:
        Job(root, spec).run("check")
    assert [error.pointer for error in caught.value.errors] == ["/model"]
