"""Which weights are trained, and that what is written is what was in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from secateur.contract.errors import InvalidInput
from secateur.contract.options.recovery import ContinuedRecovery, DistillRecovery
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.block_model import BlockModel
from workers.engine.model.loading import load_model
from workers.engine.recovery.objective import next_token
from workers.engine.recovery.trained_part import choose_trained
from workers.engine.recovery.weights import write_weights


@pytest.mark.parametrize("family", ["llama", "gpt2"])  # of gpt2 the head is tied
def test_what_stands_before_the_cut_is_left_as_it_was(
    make_model: Callable[..., PreTrainedModel], save_model: Callable[..., Path], family: str
) -> None:
    model = _loaded(save_model(make_model(family)))
    blocks = BlockModel.from_model(model).n_blocks
    kept = tuple(block if block < 2 else block + 2 for block in range(blocks))  # blocks 2 and 3 are gone
    (note,) = choose_trained(model, DistillRecovery(train="after_cut"), kept)
    assert note.startswith(f"Blocks 1 to {blocks - 1} of the pruned model were trained")
    view = BlockModel.from_model(model)
    trained = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    assert trained == {
        id(parameter) for block in view.blocks(range(1, blocks)) for parameter in block.module.parameters()
    }


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral", "gemma3_text", "opt"])
@pytest.mark.parametrize(("options", "kind"), [(DistillRecovery, "distill"), (ContinuedRecovery, "continued")])
def test_the_last_blocks_with_norm_and_head_are_trained_and_reloaded_as_they_were_in_memory(
    make_model: Callable[..., PreTrainedModel],
    make_ids: Callable[..., Tensor],
    save_model: Callable[..., Path],
    tmp_path: Path,
    family: str,
    options: type[DistillRecovery | ContinuedRecovery],
    kind: str,
) -> None:
    path = save_model(make_model(family))
    model = _loaded(path)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    (note,) = choose_trained(
        model, options.model_validate({"kind": kind, "train": "last_blocks", "last_blocks": 2}), (0, 1, 2, 3)
    )
    tied = model.config.tie_word_embeddings
    assert ("which is the embedding too" in note) == tied
    ids = make_ids(3, 10)
    next_token(model, {"input_ids": ids, "labels": ids}).backward()  # type: ignore[no-untyped-call]  # no annotations
    optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=0.5)
    optimizer.step()
    write_weights(model, Checkpoint.open(path), tmp_path / "out")

    view = BlockModel.from_model(model)
    last = {id(parameter) for block in view.blocks(range(2, 4)) for parameter in block.module.parameters()}
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    named = dict(model.named_parameters())
    outside = {name for name in changed if id(named[name]) not in last}
    assert len(changed) > len(outside) > 0
    assert all("norm" in name or "ln_f" in name or id(named[name]) == id(model.lm_head.weight) for name in outside)
    assert any(id(named[name]) == id(model.lm_head.weight) for name in outside)

    again: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    with torch.no_grad():
        assert torch.equal(again(ids).logits, model(ids).logits)
    assert (again.lm_head.weight.data_ptr() == again.get_input_embeddings().weight.data_ptr()) == tied


def test_more_blocks_than_there_are_cannot_be_trained(
    make_model: Callable[..., PreTrainedModel], save_model: Callable[..., Path]
) -> None:
    model = _loaded(save_model(make_model()))
    with pytest.raises(InvalidInput, match="has 4") as refused:
        choose_trained(model, DistillRecovery(train="last_blocks", last_blocks=5), (0, 1, 2, 3))
    (error,) = refused.value.errors
    assert (error.pointer, error.value, error.expected) == ("last_blocks", 5, "at most 4")


def _loaded(path: Path) -> PreTrainedModel:
    return load_model(Checkpoint.open(path), device=torch.device("cpu"), dtype=torch.float32)
