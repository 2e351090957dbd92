"""Taylor block by block against full autograd, and its memory against depth."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel

from secateur.contract.options.scoring import TaylorScoring
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.block_model import BlockModel
from workers.engine.scoring import intact_states, taylor
from workers.engine.scoring.task import ScoringTask


def _oracle(model: PreTrainedModel, ids: Tensor) -> list[float]:
    """Backpropagation through the whole model, one batch; every parameter of a block but biases."""
    model.zero_grad()
    logits = model(input_ids=ids, use_cache=False).logits
    torch.autograd.backward(F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()))
    sums = [0.0] * model.config.num_hidden_layers
    prefix = BlockModel.from_model(model).architecture.blocks_prefix + "."
    for name, parameter in model.named_parameters():
        if name.startswith(prefix) and not name.endswith("bias") and parameter.grad is not None:
            sums[int(name.removeprefix(prefix).split(".")[0])] += float(
                (parameter.detach() * parameter.grad).abs().sum()
            )
    model.zero_grad()
    return sums


@pytest.mark.parametrize("model_type", ["llama", "gemma2", "qwen3_moe", "opt", "gpt2", "falcon"])
def test_equals_full_autograd(
    model_type: str, make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    model, ids = make_model(model_type), make_ids(5, 16)
    expected = _oracle(model, ids)
    scores = taylor.score(ScoringTask(BlockModel.from_model(model), ids, TaylorScoring(criterion="taylor")))
    assert scores.values == pytest.approx(expected, rel=1e-4)
    assert scores.order == sorted(range(4), key=lambda block: expected[block])


def test_streamed_and_in_parts_of_the_batch(
    make_model: Callable[..., PreTrainedModel],
    make_ids: Callable[..., Tensor],
    save_model: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, ids = make_model(num_hidden_layers=6), make_ids(7, 16)
    expected = _oracle(model, ids)
    monkeypatch.setattr(intact_states, "CPU_TOKENS", 32)  # two samples at a time: signed products must add up first
    view = BlockModel.from_checkpoint(Checkpoint.open(save_model(model)), device="cpu", dtype=torch.float32)
    scores = taylor.score(ScoringTask(view, ids, TaylorScoring(criterion="taylor")))
    assert scores.values == pytest.approx(expected, rel=1e-4)


def test_leaves_the_model_as_it_was(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    model, ids = make_model(), make_ids()
    model.requires_grad_(False)
    first = taylor.score(ScoringTask(BlockModel.from_model(model), ids, TaylorScoring(criterion="taylor")))
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert (
        taylor.score(ScoringTask(BlockModel.from_model(model), ids, TaylorScoring(criterion="taylor"), seed=1)) == first
    )


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves its hooks without annotations
    """Counts the bytes of tensor memory that is allocated while the mode is on: the peak of what is alive."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.peak: int = 0
        self._live: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.is_mkldnn:  # packed weights: they have no storage to see
                self._count(leaf, -id(leaf), leaf.numel() * leaf.element_size())
            elif isinstance(leaf, Tensor) and leaf.device.type == "cpu":
                storage = leaf.untyped_storage()
                self._count(storage, storage.data_ptr(), storage.nbytes())
        return out

    def _count(self, owner: object, address: int, size: int) -> None:
        if address and address not in self._live:
            self._live[address] = size
            weakref.finalize(owner, self._live.pop, address, None)
            self.peak = max(self.peak, sum(self._live.values()))


def _peak(view: BlockModel, ids: Tensor) -> int:
    taylor.score(ScoringTask(view, ids, TaylorScoring(criterion="taylor")))  # warms up what is cached per shape
    with _LiveBytes() as live:
        taylor.score(ScoringTask(view, ids, TaylorScoring(criterion="taylor")))
    return int(live.peak)


def test_memory_grows_with_depth_by_the_block_inputs_only(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor], save_model: Callable[..., Path]
) -> None:
    ids = make_ids(2, 16)
    peaks = {}
    for depth in (4, 16):
        model = make_model(num_hidden_layers=depth, hidden_size=64, intermediate_size=256)
        path = save_model(model, name=f"depth-{depth}")
        view = BlockModel.from_checkpoint(Checkpoint.open(path), device="cpu", dtype=torch.float32)
        peaks[depth] = _peak(view, ids)
    one_input = 2 * 16 * 64 * 4
    block_weights = sum(p.numel() for p in model.get_submodule("model.layers.0").parameters()) * 4
    grown = peaks[16] - peaks[4]
    assert grown <= 12 * one_input + 4096, (peaks, one_input)
    assert peaks[16] > block_weights  # the measure does see the weights' gradients
