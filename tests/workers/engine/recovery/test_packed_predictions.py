"""Predictions in few bytes: the same tokens, and a divergence that is hardly another."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from workers.engine.model.block_model import BlockModel
from workers.engine.recovery.packed_predictions import PackedForm
from workers.engine.recovery.teacher import kl_to_predictions, top_predictions


def drawn(vocabulary: int, *, spread: float = 4.0, rows: int = 40) -> Tensor:
    """Log-probabilities as of a trained model: some positions sure, some not."""
    generator = torch.Generator().manual_seed(1)
    sharpness = torch.linspace(0.2, spread, rows).unsqueeze(1)
    return (torch.randn((rows, vocabulary), generator=generator) * sharpness).log_softmax(-1)


@pytest.mark.parametrize(("vocabulary", "taken"), [(300, 200), (65_536, 200), (65_537, 264), (262_144, 264)])
def test_every_number_comes_back_and_so_many_bytes_are_taken(vocabulary: int, taken: int) -> None:
    form = PackedForm.of(64, vocabulary)
    ids = torch.arange(vocabulary - 64, vocabulary, dtype=torch.int32).flip(0).expand(2, 3, 64)
    packed = form.pack(ids, torch.linspace(-1, -9, 64).log_softmax(-1).expand(2, 3, 64))
    assert packed.shape == (2, 3, taken)
    assert packed.dtype == torch.uint8
    assert torch.equal(form.unpack(packed)[0], ids.long())


def test_probabilities_are_near_and_what_is_left_to_all_others_is_exact() -> None:
    logs, top = drawn(5000).topk(64)
    form = PackedForm.of(64, 5000)
    _, found = form.unpack(form.pack(top, logs))
    assert torch.allclose(found.exp().sum(-1), logs.exp().sum(-1), rtol=1e-6)
    half_a_step = (logs[:, :1] - logs[:, -1:]) / 510
    assert bool(((found - logs).abs() <= 2 * half_a_step + 1e-5).all())  # rounded, and all moved by their mean at most


@pytest.mark.parametrize("logs", [[0.0, -200.0, -float("inf")], [-1.0986123] * 3])
def test_a_sure_position_and_one_of_equals_stay_finite(logs: list[float]) -> None:
    form = PackedForm.of(3, 3)
    _, found = form.unpack(form.pack(torch.tensor([2, 1, 0]), torch.tensor(logs)))
    assert torch.isfinite(found).all()
    assert torch.allclose(found.exp(), torch.tensor(logs).exp(), atol=1e-6)


def test_the_divergence_is_within_a_thousandth_of_that_to_exact_predictions(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    teacher, ids = BlockModel.from_model(make_model(initializer_range=0.3)), make_ids(20, 16)
    exact = top_predictions(teacher, ids, top_k=32, temperature=1.0)
    form = PackedForm.of(32, teacher.vocab_size)
    packed = form.unpack(form.pack(*exact))
    with torch.no_grad():
        for student in (make_model(seed=1), make_model(initializer_range=0.3, num_hidden_layers=3)):
            logits = student(ids).logits
            near, far = (kl_to_predictions(logits, *given, temperature=1.0).item() for given in (packed, exact))
            assert near == pytest.approx(far, rel=1e-3)
        itself = kl_to_predictions(_logits(teacher, ids), *packed, temperature=1.0)
    assert itself.item() < 2e-4  # what is lost by packing, of a student that predicts as the teacher


def _logits(model: BlockModel, ids: Tensor) -> Tensor:
    states = model.embed(ids)
    for block in model.blocks():
        states = block(states)
    return torch.cat([logits for _, logits in model.head_chunks(states)]).view(*ids.shape, -1)
