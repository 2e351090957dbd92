"""Blocks composed by hand equal the model's own forward to the bit, from memory and streamed from disk."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from secateur.contract.errors import InvalidInput, UnsupportedModel
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.block_model import BlockModel


def _compose(model: BlockModel, ids: Tensor) -> Tensor:
    with torch.no_grad():
        hidden = model.embed(ids)
        for block in model.blocks():
            hidden = block(hidden)
        return model.head(hidden)


def _own(model: PreTrainedModel, ids: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(input_ids=ids, use_cache=False).logits
    return logits


def test_composed_in_memory_is_the_models_forward(
    family: str, make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    model, ids = make_model(family), make_ids(3, 16)
    expected = _own(model, ids)
    assert torch.equal(_compose(BlockModel.from_model(model), ids), expected)
    assert torch.equal(_own(model, ids), expected)  # nothing of the patching stays behind


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_composed_from_disk_is_the_models_forward(
    family: str,
    dtype: torch.dtype,
    make_model: Callable[..., PreTrainedModel],
    make_ids: Callable[..., Tensor],
    save_model: Callable[..., Path],
) -> None:
    ids = make_ids(2, 16)
    path = save_model(make_model(family), max_shard_size="60KB")
    loaded = AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
    streamed = BlockModel.from_checkpoint(Checkpoint.open(path), device="cpu", dtype=dtype)
    assert torch.equal(_compose(streamed, ids), _own(loaded, ids))
    assert torch.equal(_compose(streamed, ids), _own(loaded, ids))  # a second sweep reads the blocks anew


def test_falcon_with_alibi_composes_at_any_batch_size(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    model = make_model("falcon", alibi=True, new_decoder_architecture=False)
    view = BlockModel.from_model(model)
    for samples in (1, 3):
        ids = make_ids(samples, 10)
        assert torch.equal(_compose(view, ids), _own(model, ids))


def test_eager_attention_with_explicit_masks_composes(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    model, ids = make_model("gemma2"), make_ids()
    model.set_attn_implementation("eager")
    assert torch.equal(_compose(BlockModel.from_model(model), ids), _own(model, ids))


@pytest.mark.parametrize("bytes_at_once", [1, 5 * 4 * 96, 40 * 4 * 96, 2**20])
def test_head_in_chunks_is_the_whole_head(
    bytes_at_once: int, make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    model, ids = BlockModel.from_model(make_model("gpt2")), make_ids(4, 12)
    hidden = model.embed(ids)
    whole = model.head(hidden).flatten(0, 1)
    seen = 0
    for rows, logits in model.head_chunks(hidden, bytes_at_once=bytes_at_once):
        assert rows.start == seen
        assert logits.numel() * 4 <= max(bytes_at_once, 4 * 96)
        torch.testing.assert_close(logits, whole[rows], rtol=1e-5, atol=1e-6)
        seen = rows.stop
    assert seen == whole.shape[0]


def test_head_nll_is_the_cross_entropy_of_the_next_token(
    family: str, make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    model, ids = make_model(family), make_ids(3, 12)
    view = BlockModel.from_model(model)
    hidden = view.embed(ids)
    with torch.no_grad():
        for block in view.blocks():
            hidden = block(hidden)
    expected = F.cross_entropy(_own(model, ids)[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")
    nll = view.head_nll(hidden, ids)
    assert nll.shape == (3, 11)
    torch.testing.assert_close(nll, expected, rtol=1e-5, atol=1e-6)


def test_weights_are_those_of_linear_maps_and_norms(make_model: Callable[..., PreTrainedModel]) -> None:
    view = BlockModel.from_model(make_model("qwen2"))  # its q, k and v have biases
    names = [name for name, _ in next(iter(view.blocks())).weights()]
    assert len(names) == 9  # seven projections and two norms
    assert not any(name.endswith("bias") for name in names)


def test_every_weight_byte_is_read_once_per_sweep(
    make_model: Callable[..., PreTrainedModel], save_model: Callable[..., Path]
) -> None:
    path = save_model(make_model("qwen3_moe"), max_shard_size="20KB")
    total = sum(file.stat().st_size - _header_bytes(file) for file in path.glob("*.safetensors"))
    view = BlockModel.from_checkpoint(Checkpoint.open(path), device="cpu", dtype=torch.float32)
    resident = view.bytes_read
    for _ in view.blocks():
        pass
    assert view.bytes_read == total
    for _ in view.blocks():
        pass
    assert view.bytes_read == 2 * total - resident


def test_one_block_of_weights_in_use_at_a_time(
    make_model: Callable[..., PreTrainedModel], save_model: Callable[..., Path]
) -> None:
    view = BlockModel.from_checkpoint(Checkpoint.open(save_model(make_model())), device="cpu", dtype=torch.float32)
    modules = [block.module for block in view.blocks()]
    assert all(parameter.is_meta for module in modules for parameter in module.parameters())
    for block in view.blocks():
        loaded = [m for m in modules if not any(parameter.is_meta for parameter in m.parameters())]
        assert loaded == [block.module]


def test_blocks_come_in_the_order_asked_for(
    make_model: Callable[..., PreTrainedModel], save_model: Callable[..., Path]
) -> None:
    model = make_model()
    view = BlockModel.from_checkpoint(Checkpoint.open(save_model(model)), device="cpu", dtype=torch.float32)
    for block in view.blocks([3, 0, 2]):
        own = model.get_parameter(f"model.layers.{block.index}.mlp.up_proj.weight")
        assert torch.equal(block.module.get_parameter("mlp.up_proj.weight"), own)


def test_a_sweep_that_is_left_early_lets_go_of_its_block(
    make_model: Callable[..., PreTrainedModel], save_model: Callable[..., Path]
) -> None:
    view = BlockModel.from_checkpoint(Checkpoint.open(save_model(make_model())), device="cpu", dtype=torch.float32)
    for block in view.blocks():
        module = block.module
        break
    gc.collect()
    assert all(parameter.is_meta for parameter in module.parameters())


def test_names_without_the_base_models_prefix_are_found(
    tmp_path: Path, make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    model, ids = make_model("gpt2"), make_ids()
    bare = cast(PreTrainedModel, model.get_submodule("transformer"))
    bare.save_pretrained(tmp_path / "bare")  # writes h.0.…, as gpt2 on the hub has it
    model.config.architectures = ["GPT2LMHeadModel"]
    model.config.save_pretrained(tmp_path / "bare")
    view = BlockModel.from_checkpoint(Checkpoint.open(tmp_path / "bare"), device="cpu", dtype=torch.float32)
    assert torch.equal(_compose(view, ids), _own(model, ids))


def test_a_missing_tensor_is_named(make_model: Callable[..., PreTrainedModel], save_model: Callable[..., Path]) -> None:
    path = save_model(make_model("llama", tie_word_embeddings=False))
    model = make_model("llama", tie_word_embeddings=True)
    model.save_pretrained(path)
    model.config.tie_word_embeddings = False
    model.config.save_pretrained(path)
    with pytest.raises(InvalidInput, match=r"lacks 1 tensors .* lm_head\.weight"):
        BlockModel.from_checkpoint(Checkpoint.open(path), device="cpu", dtype=torch.float32)


def test_a_tensor_of_another_shape_is_named(
    make_model: Callable[..., PreTrainedModel], save_model: Callable[..., Path]
) -> None:
    model = make_model()
    path = save_model(model)
    model.config.intermediate_size = 64
    model.config.save_pretrained(path)
    with pytest.raises(InvalidInput, match=r"model\.layers\.0\.mlp\..*asks for"):
        list(BlockModel.from_checkpoint(Checkpoint.open(path), device="cpu", dtype=torch.float32).blocks())


def test_a_quantised_checkpoint_is_refused_and_explicit_blocks_suggested(
    make_model: Callable[..., PreTrainedModel], save_model: Callable[..., Path]
) -> None:
    model = make_model()
    path = save_model(model)
    model.config.quantization_config = {"quant_method": "gptq", "bits": 4}
    model.config.save_pretrained(path)
    with pytest.raises(UnsupportedModel, match="gptq") as caught:
        BlockModel.from_checkpoint(Checkpoint.open(path), device="cpu", dtype=torch.float32)
    assert "or blocks that are named" in str(caught.value.errors[0].expected)


def test_a_single_block_is_refused(make_model: Callable[..., PreTrainedModel]) -> None:
    with pytest.raises(UnsupportedModel, match="single block"):
        BlockModel.from_model(make_model("llama", num_hidden_layers=1))


@pytest.mark.parametrize(
    "ids",
    [torch.zeros(4, dtype=torch.long), torch.zeros((1, 1), dtype=torch.long), torch.full((1, 4), 500)],
    ids=["no samples", "one token", "not in the vocabulary"],
)
def test_tokens_that_do_not_fit_are_refused(ids: Tensor, make_model: Callable[..., PreTrainedModel]) -> None:
    with pytest.raises(InvalidInput):
        BlockModel.from_model(make_model()).embed(ids)


def test_more_tokens_than_learned_positions_are_refused(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    with pytest.raises(InvalidInput, match="64 positions"):
        BlockModel.from_model(make_model("gpt2")).embed(make_ids(1, 65))


def _header_bytes(file: Path) -> int:
    return 8 + int.from_bytes(file.read_bytes()[:8], "little")
