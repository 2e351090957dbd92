"""Names, order and types of the tensors that a GGUF file gets."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from secateur.contract.errors import UnsupportedModel
from tests.fixtures.gguf_models import tensors_of, tiny_model
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.quantise.gguf_config import supported
from workers.engine.quantise.gguf_tensors import Kind, interleave, plan_tensors


def test_neighbours_take_turns() -> None:
    rows = torch.arange(8.0).unsqueeze(1)  # two heads of four
    assert interleave(rows, 2).squeeze(1).tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert interleave(rows.squeeze(1), 2).tolist() == [0, 2, 1, 3, 4, 6, 5, 7]  # a bias


@pytest.mark.parametrize("model_type", ["llama", "mixtral", "qwen2_moe", "qwen3_moe"])
def test_the_tensors_are_those_of_llama_cpps_converter(model_type: str, tmp_path: Path) -> None:
    model = tiny_model(model_type)
    model.save_pretrained(tmp_path)
    checkpoint = Checkpoint.open(tmp_path)
    plan = plan_tensors(checkpoint, supported(checkpoint.config), "Q8_0")
    expected = tensors_of(model)
    assert {planned.tensor.name for planned in plan} == set(expected)
    for planned in plan:
        values = planned.make()
        assert planned.tensor.shape == tuple(reversed(values.shape))
        assert torch.equal(values, torch.from_numpy(expected[planned.tensor.name])), planned.tensor.name
    kinds = {planned.tensor.name: planned.tensor.kind for planned in plan}
    if model_type != "llama":
        assert kinds["blk.0.ffn_gate_inp.weight"] == Kind.F32  # the router
        assert kinds["blk.0.ffn_up_exps.weight"] == Kind.Q8_0


def test_a_mixture_that_lacks_an_expert_is_refused(tmp_path: Path) -> None:
    tiny_model("mixtral").save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.layers.1.block_sparse_moe.experts.2.w3.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    checkpoint = Checkpoint.open(tmp_path)
    with pytest.raises(UnsupportedModel, match=r"not 4 experts of one size for blk\.1\.ffn_up_exps"):
        plan_tensors(checkpoint, supported(checkpoint.config), "Q8_0")
