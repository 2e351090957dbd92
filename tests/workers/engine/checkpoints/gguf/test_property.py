"""Any tiny model, with any of the keys that llama.cpp knows: an import is the true model, or a refusal that names why.

SECATEUR_PROPERTY_EXAMPLES=2000 looks for longer.
"""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, PreTrainedModel

from secateur.contract.errors import BadCheckpoint, UnsupportedModel
from tests.fixtures.gguf_models import WRITTEN, byte_tokenizer, keys_of, tensors_of, tiny_model, write_model
from workers.engine.checkpoints.gguf_import import import_gguf

EXAMPLES = int(os.environ.get("SECATEUR_PROPERTY_EXAMPLES", "25"))

# Every key under an architecture's name that the `gguf` package can write.
ALL_KEYS = sorted(
    {
        value.removeprefix("{arch}.")
        for group in vars(gguf.Keys).values()
        if isinstance(group, type)
        for value in vars(group).values()
        if isinstance(value, str) and value.startswith("{arch}.")
    }
)
# Those that change nothing whatever they say, in llama.cpp's own code.
HARMLESS = {"rope.scaling.finetuned", "tensor_data_layout", "vocab_size"}
# Keys that families here understand, and that the drawn models say through their own settings or not at all.
UNDERSTOOD = {
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "rope.freq_base_swa",
    "rope.scale_linear",
    *(key for key in ALL_KEYS if key.startswith("rope.scaling.") and key not in HARMLESS),
}


@pytest.fixture(autouse=True)
def no_trial_of_configs() -> None:
    """Here they are tried in a child first, as in a stage."""


def rope(draw: Any, model_type: str, context: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """`rope_parameters` of a true model, and the keys that llama.cpp's converter writes for the scaling."""
    theta = draw(st.sampled_from([10000.0, 500.0, 1000000.0]))
    kinds = {"phi3": (), "nemotron": ("linear",), "gemma3_text": ()}.get(model_type, ("linear", "yarn"))
    kind = draw(st.sampled_from(("default", *kinds)))
    factor = draw(st.sampled_from([1.5, 4.0, 8.0]))
    if kind == "linear":
        return {"rope_type": kind, "rope_theta": theta, "factor": factor}, {"type": "linear", "factor": factor}
    if kind == "yarn":
        original = draw(st.sampled_from([8, 16, 32]))
        more = draw(st.sampled_from([1.0, 0.8]))
        values = {
            "rope_type": kind,
            "rope_theta": theta,
            "factor": factor,
            "original_max_position_embeddings": original,
        }
        keys: dict[str, Any] = {"type": "yarn", "factor": factor, "original_context_length": original}
        if more != 1:
            values["attention_factor"] = more * (1 + 0.1 * math.log(factor))
            keys["attn_factor"] = more
        return values, keys
    return {"rope_type": "default", "rope_theta": theta}, {}


@st.composite
def models(draw: Any) -> tuple[PreTrainedModel, dict[str, Any]]:
    """A true model, and the keys of its rotary scaling."""
    model_type = draw(st.sampled_from(sorted(WRITTEN)))
    written = WRITTEN[model_type]
    kv_heads, groups, size = (
        draw(st.sampled_from([1, 2])),
        draw(st.sampled_from([1, 2])),
        draw(st.sampled_from([8, 16])),
    )
    values: dict[str, Any] = {
        "num_hidden_layers": draw(st.integers(1, 3)),
        "num_attention_heads": kv_heads * groups,
        "num_key_value_heads": kv_heads,
        "hidden_size": 16 * kv_heads * groups,
        "intermediate_size": draw(st.sampled_from([16, 48])),
        "tie_word_embeddings": draw(st.booleans()) if written.tied is None else written.tied,
    }
    if model_type in ("llama", "mixtral", "qwen3", "qwen3_moe") or model_type.startswith("gemma"):
        values["head_dim"] = size
    if model_type.startswith(("gemma2", "gemma3")):
        values["query_pre_attn_scalar"] = size
        values["sliding_window"] = draw(st.sampled_from([4, 9]))
    for name in ("attention_bias", "mlp_bias"):
        if model_type in ("llama", "granite", "nemotron"):
            values[name] = draw(st.booleans())
    if model_type == "stablelm":
        values |= {name: draw(st.booleans()) for name in ("use_qkv_bias", "qk_layernorm", "use_parallel_residual")}
    keys: dict[str, Any] = {}
    if model_type not in ("gpt2", "gemma3_text"):
        parameters, scaling = rope(draw, model_type, 64)
        partial = {"partial_rotary_factor": 0.5} if model_type in ("phi3", "stablelm", "nemotron") else {}
        values["rope_parameters"] = {**parameters, **partial}
        if model_type == "mixtral" or parameters["rope_type"] == "yarn":
            values.setdefault("head_dim", 16)
        keys = {f"rope.scaling.{key}": value for key, value in scaling.items()}
    if model_type in ("gpt2", "starcoder2", "stablelm", "nemotron", "qwen2", "qwen2_moe", "granite", "phi3"):
        values.pop("head_dim", None)
    return tiny_model(model_type, seed=draw(st.integers(0, 3)), **values), keys


STRAYS = st.tuples(
    st.sampled_from(ALL_KEYS),
    st.sampled_from([0, 1, 2, 7, 64, 1 << 30]) | st.sampled_from([0.0, 1.0, 0.5, 30.0]) | st.booleans() | st.just("x"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("property")


@pytest.mark.thorough
@settings(max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES <= 25, suppress_health_check=list(HealthCheck))
@given(drawn=models(), stray=st.none() | STRAYS, lost=st.none() | st.integers(0, 1000))
def test_an_import_is_the_true_model_or_a_refusal(
    folder: Path, drawn: tuple[PreTrainedModel, dict[str, Any]], stray: Any, lost: int | None
) -> None:
    model, keys = drawn
    tensors = tensors_of(model)
    config: Any = model.config
    must_refuse = False
    if stray is not None:
        key, value = stray
        assume(key not in keys_of(model) and key not in keys and key not in UNDERSTOOD)
        keys = {**keys, key: value}
        # 0 and false may mean "none", and 1 and true what is so anyway
        must_refuse = key not in HARMLESS and value not in (0, 1)
    if lost is not None:
        name = sorted(tensors)[lost % len(tensors)]
        assume(name != "output.weight")  # without which a file is a tied model's, and whole
        assume(not name.endswith("bias") or config.num_hidden_layers > 1)  # likewise, without a bias anywhere
        del tensors[name]
        must_refuse = True
    tokenizer = byte_tokenizer(config.vocab_size, pre="qwen2" if config.model_type == "qwen2" else "gpt-2")
    file = write_model(folder / "model.gguf", model, keys=keys, tensors=tensors, tokenizer=tokenizer)
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)
    refused: BadCheckpoint | UnsupportedModel | None = None
    try:
        import_gguf(file, folder / "checkpoint")
    except (BadCheckpoint, UnsupportedModel) as error:
        refused = error
    event("imported" if refused is None else "refused")
    if refused is not None:
        assert stray is not None or lost is not None, refused.detail
        assert refused.detail.startswith("model.gguf: ")
        assert refused.detail.isprintable()
        assert not (folder / "checkpoint").exists()
        return
    assert not must_refuse
    back: Any = AutoModelForCausalLM.from_pretrained(folder / "checkpoint")
    ids = torch.randint(3, 259, (1, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before, after = model(ids).logits, back(ids).logits
    np.testing.assert_allclose(before.numpy(), after.numpy(), rtol=2e-3, atol=2e-3)
