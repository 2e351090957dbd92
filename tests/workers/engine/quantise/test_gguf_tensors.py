"""Names, order and types of the tensors that a GGUF file gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from secateur.contract.errors import UnsupportedModel
from secateur.contract.gguf_kinds import FILE_KINDS
from tests.fixtures.gguf_models import WRITTEN, tensors_of, tiny_model
from workers.engine.architectures.config import as_config
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.quantise.gguf_config import supported
from workers.engine.quantise.gguf_tensors import interleave, weights_of


def test_neighbours_take_turns() -> None:
    rows = torch.arange(8.0).unsqueeze(1)  # two heads of four
    assert interleave(rows, 2).squeeze(1).tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert interleave(rows.squeeze(1), 2).tolist() == [0, 2, 1, 3, 4, 6, 5, 7]  # a bias


@pytest.mark.parametrize("model_type", [*WRITTEN, "stablelm with norms of its heads"])
def test_the_tensors_are_those_of_llama_cpps_converter(model_type: str, tmp_path: Path) -> None:
    model_type, _, with_norms = model_type.partition(" with")
    more: dict[str, Any] = {"qk_layernorm": True} if with_norms else {}
    model = tiny_model(model_type, tie_word_embeddings=model_type.startswith("gemma"), **more)
    model.save_pretrained(tmp_path)
    checkpoint = Checkpoint.open(tmp_path)
    plan = weights_of(checkpoint, as_config(dict(checkpoint.config)), WRITTEN[model_type].architecture)
    expected = tensors_of(model)
    assert {weight.name for weight in plan} == set(expected)
    for weight in plan:
        values = weight.make()
        assert weight.place.shape == tuple(values.shape)
        assert torch.equal(values, torch.from_numpy(expected[weight.name])), weight.name
    types = {weight.name: FILE_KINDS["F16"].type_of(weight.place) for weight in plan}
    if "blk.0.ffn_gate_inp.weight" in types:
        assert types["blk.0.ffn_gate_inp.weight"] == "F32"  # the router
        assert types["blk.0.ffn_up_exps.weight"] == "F16"


def test_a_mixture_that_lacks_an_expert_is_refused(tmp_path: Path) -> None:
    tiny_model("mixtral").save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.layers.1.block_sparse_moe.experts.2.w3.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    checkpoint = Checkpoint.open(tmp_path)
    with pytest.raises(UnsupportedModel, match=r"not 4 experts of one size for blk\.1\.ffn_up_exps"):
        weights_of(checkpoint, supported(checkpoint.config), "llama")
