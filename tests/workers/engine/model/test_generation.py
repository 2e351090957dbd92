"""Text that a model samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from secateur.contract.errors import StageFailed
from workers.engine.model import generation
from workers.engine.model.generation import Asked, derive_seed, kv_bytes_per_token, sample_answers, sample_text
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


@pytest.mark.parametrize("rows_at_once", [2, 128])
def test_prompts_are_answered_one_after_the_other_and_no_row_is_padded(
    make_model: Callable[..., PreTrainedModel], monkeypatch: pytest.MonkeyPatch, rows_at_once: int
) -> None:
    """Each token that is not given is the one that the model, which is asked for its likeliest here, has next."""
    model = make_model()
    monkeypatch.setattr(generation, "MAX_BATCH", rows_at_once)
    prompts = [[10 + number, 3, 4] for number in range(7)]
    asked = Asked(prompts, ends=range(40, 80), after=[5, 6])
    ids, answers = sample_answers(model, asked, samples=5, tokens=40, temperature=1e-4)
    assert ids.shape == answers.shape == (5, 40)
    with torch.no_grad():
        likeliest = model(ids).logits.argmax(-1)
    assert torch.equal(ids[:, 1:][answers[:, 1:]], likeliest[:, :-1][answers[:, 1:]])
    turns = 0
    for row in range(5):
        at, number = 0, row
        while at < 40:  # a prompt, what the model wrote up to an end, and what stands between
            given = prompts[number % 7][: 40 - at]
            assert ids[row, at : at + 3].tolist() == given
            assert not answers[row, at : at + 3].any()
            at += 3
            while at < 40 and int(ids[row, at]) not in asked.ends:
                assert answers[row, at]
                at += 1
            assert answers[row, at : at + 1].all()
            assert ids[row, at + 1 : at + 3].tolist() == [5, 6][: max(0, 39 - at)]
            assert not answers[row, at + 1 : at + 3].any()
            at, number, turns = at + 3, number + 5, turns + 1
    assert turns > 10  # or the rule for a second turn was not seen


def test_answers_are_drawn_as_the_model_has_them_and_the_same_again(make_model: Callable[..., PreTrainedModel]) -> None:
    model, asked = make_model(), Asked([[1, 9]])
    ids, _ = sample_answers(model, asked, samples=4000, tokens=3, temperature=0.7, seed=1)
    again, _ = sample_answers(model, asked, samples=4000, tokens=3, temperature=0.7, seed=1)
    assert torch.equal(ids, again)
    with torch.no_grad():
        expected = (model(torch.tensor([[1, 9]])).logits[0, -1] / 0.7).softmax(-1)
    observed = torch.bincount(ids[:, 2], minlength=len(expected)) / 4000
    assert (observed - expected).abs().max() < 5 * (expected * (1 - expected) / 4000).sqrt().max()
