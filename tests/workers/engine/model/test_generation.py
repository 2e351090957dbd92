"""Text that a model samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from secateur.contract.errors import StageFailed
from workers.engine.model import generation
from workers.engine.model.generation import derive_seed, kv_bytes_per_token, sample_text
from workers.engine.model.loading import next_logits


def test_the_same_seed_gives_the_same_text_and_another_seed_another(make_model: Callable[..., PreTrainedModel]) -> None:
    model = make_model()
    first, second, other = (sample_text(model, samples=3, tokens=10, seed=seed, bos=1) for seed in (5, 5, 6))
    assert first.shape == (3, 10)
    assert first.dtype is torch.int64
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert (first[:, 0] == 1).all()


def test_samples_follow_the_models_own_distribution(make_model: Callable[..., PreTrainedModel]) -> None:
    model = make_model()
    with torch.no_grad():
        expected = (model(torch.tensor([[1]])).logits[0, 0] / 0.7).softmax(-1)
    seconds = sample_text(model, samples=4000, tokens=2, temperature=0.7, seed=1, bos=1)[:, 1]
    observed = torch.bincount(seconds, minlength=len(expected)) / 4000
    assert (observed - expected).abs().max() < 5 * (expected * (1 - expected) / 4000).sqrt().max()


def test_a_token_without_probability_is_never_drawn() -> None:
    probabilities = torch.tensor([[0.0, 0.3, 0.0, 0.7, 0.0], [0.0, 0.0, 1.0, 0.0, 0.0], [0.5, 0.0, 0.0, 0.0, 0.5]])
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat([generation._drawn(probabilities, generator) for _ in range(2000)], dim=1)
    assert [set(row.tolist()) for row in drawn] == [{1, 3}, {2}, {0, 4}]


def test_without_a_first_token_texts_start_with_random_ones_that_are_not_special(
    make_model: Callable[..., PreTrainedModel],
) -> None:
    first = sample_text(make_model(), samples=300, tokens=2, seed=0, avoid=(0, 1, 2, 9999))[:, 0]
    assert len(set(first.tolist())) > 40
    assert int(first.min()) > 2


def test_batches_are_as_small_as_the_cache_allows(
    make_model: Callable[..., PreTrainedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    monkeypatch.setattr(generation, "CACHE_BYTES", 10 * 2 * kv_bytes_per_token(model))
    told: list[tuple[int, int]] = []
    ids = sample_text(
        model, samples=5, tokens=10, seed=0, bos=1, progress=lambda done, total, unit: told.append((done, total))
    )
    assert ids.shape == (5, 10)
    assert told[-1] == (50, 50)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


@pytest.mark.parametrize("model_type", ["llama", "gemma", "gpt2", "qwen3"])
def test_bytes_of_keys_and_values_are_those_of_a_real_cache(
    make_model: Callable[..., PreTrainedModel], model_type: str
) -> None:
    model = make_model(model_type)
    with torch.no_grad():
        cache = next_logits(model, torch.ones((1, 7), dtype=torch.long), None)[1]
    layers: list[Any] = cache.layers
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in layers)
    assert kv_bytes_per_token(model) * 7 == held


def test_logits_that_are_not_finite_end_the_stage(make_model: Callable[..., PreTrainedModel]) -> None:
    model = make_model()
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(StageFailed, match="not finite at token 1"):
        sample_text(model, samples=1, tokens=4, bos=1)


def test_streams_of_seeds_differ() -> None:
    seeds = {derive_seed(seed, purpose, n) for seed in (0, 1) for purpose in ("training", "measuring") for n in (0, 1)}
    assert len(seeds) == 8
    assert all(0 <= seed < 2**63 for seed in seeds)
