"""Models between a recovered one and the original: every tensor is the one or the other's, by plain rule."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from secateur.contract.options.sizes import End
from tests.workers.engine.pruning.test_depth import bypassed, logits, reload
from workers.engine.architectures.registry import architecture_of
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.pruning.depth import prune_depth
from workers.engine.pruning.put_back import Between, put_back, sizes_between

Make = Callable[..., PreTrainedModel]


@pytest.mark.parametrize(
    ("dropped", "end", "expected"),
    [
        ([2, 5, 6], "last", [(8, (5, 6), range(4, 9))]),
        ([2, 5, 6], "first", [(7, (2,), range(3))]),
        ([1, 3, 5], "last", [(7, (5,), range(4, 9)), (8, (3, 5), range(2, 9))]),
        ([1, 3, 5], "first", [(7, (1,), range(2)), (8, (1, 3), range(4))]),
        ([0, 1, 8], "last", [(7, (8,), range(7, 9))]),
        ([0, 1, 8], "first", [(8, (0, 1), range(2))]),
        ([3, 4, 5], "last", []),
        ([3, 4, 5], "first", []),
    ],
)
def test_cuts_come_back_whole_from_one_end(
    dropped: list[int], end: End, expected: list[tuple[int, tuple[int, ...], range]]
) -> None:
    found = sizes_between(9, dropped, end=end)
    assert [(model.blocks, model.put_back, model.originals) for model in found] == expected


def test_the_block_that_stands_for_a_cut_is_the_original_s_where_the_cut_is_filled_in() -> None:
    dropped = [1, 2, 4, 7]
    for end in ("last", "first"):
        for model in sizes_between(10, dropped, end=end):
            for block in model.put_back:
                before = max(kept for kept in range(block) if kept not in dropped)
                assert before in model.originals
                assert block in model.originals


def changed(model: PreTrainedModel, source: Path, folder: Path, dropped: list[int], save: Callable[..., Path]) -> Path:
    """The model without the blocks, and with every weight another one: as after a recovery that trains all."""
    prune_depth(Checkpoint.open(source), folder / "pruned", drop=dropped)
    recovered = reload(folder / "pruned")
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in recovered.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator).to(parameter.dtype))
    return save(recovered, name="recovered")


def expected_state(original: Any, recovered: Any, dropped: list[int], model: Between) -> dict[str, Tensor]:
    """By hand: the state of the model in between, in the original's numbers; removed blocks are the original's."""
    architecture = architecture_of(original.config)
    prefix = f"{architecture.blocks_prefix}."
    kept = [block for block in range(len(original.get_submodule(architecture.blocks_prefix))) if block not in dropped]
    tied = original.get_output_embeddings().weight is original.get_input_embeddings().weight
    state: dict[str, Tensor] = original.state_dict()
    theirs: dict[str, Tensor] = recovered.state_dict()
    for name in state:
        if name.startswith(prefix):
            number, _, rest = name.removeprefix(prefix).partition(".")
            block = int(number)
            if block not in model.originals and block in kept:
                state[name] = theirs[f"{prefix}{kept.index(block)}.{rest}"]
        else:
            begins = name.startswith(tuple(architecture.embeddings)) or (tied and name.startswith(architecture.head))
            if begins == (model.originals.start > 0):
                state[name] = theirs[name]
    return state


@pytest.mark.parametrize("family", ["llama", "mistral", "mixtral", "gpt2", "qwen2_moe", "gpt_neox", "opt"])
@pytest.mark.parametrize("end", ["last", "first"])
def test_what_is_written_is_the_one_and_the_other(
    family: str,
    end: End,
    make_model: Make,
    make_ids: Callable[..., Tensor],
    save_model: Callable[..., Path],
    tmp_path: Path,
) -> None:
    dropped = [1, 3]
    settings = {"n_layer": 6} if family == "gpt2" else {"num_hidden_layers": 6}
    original, ids = make_model(family, **settings), make_ids(2, 12)
    source = save_model(original)
    recovered = changed(original, source, tmp_path, dropped, save_model)
    (model,) = sizes_between(6, dropped, end=end)
    put_back(Checkpoint.open(source), Checkpoint.open(recovered), tmp_path / "between", dropped=dropped, model=model)
    between = reload(tmp_path / "between")
    state = expected_state(original, reload(recovered), dropped, model)
    original.load_state_dict(state)
    with bypassed(original, [block for block in dropped if block not in model.put_back]):
        expected = logits(original, ids)
    assert torch.equal(logits(between, ids), expected)
    assert not list(tmp_path.glob("tmp*"))
