"""The walk against n separate models, samples one by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from secateur.contract.errors import InvalidInput
from secateur.contract.options.scoring import PerplexityScoring
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.block_model import BlockModel
from workers.engine.scoring import perplexity, subsets
from workers.engine.scoring.task import ScoringTask


def _oracle(
    model: PreTrainedModel,
    ids: Tensor,
    without: Callable[..., PreTrainedModel],
    token_losses: Callable[..., Tensor],
) -> list[Tensor]:
    n_blocks = model.config.num_hidden_layers
    return [token_losses(without(model, {block}), ids).mean(1) for block in range(n_blocks)]


@pytest.mark.parametrize("streamed", [False, True], ids=["in memory", "streamed"])
def test_equals_separate_models(
    streamed: bool,
    make_model: Callable[..., PreTrainedModel],
    make_ids: Callable[..., Tensor],
    save_model: Callable[..., Path],
    without: Callable[..., PreTrainedModel],
    token_losses: Callable[..., Tensor],
) -> None:
    model, ids = make_model(num_hidden_layers=6), make_ids(5, 16)
    losses = _oracle(model, ids, without, token_losses)
    view = (
        BlockModel.from_checkpoint(Checkpoint.open(save_model(model)), device="cpu", dtype=torch.float32)
        if streamed
        else BlockModel.from_model(model)
    )
    scores = perplexity.score(ScoringTask(view, ids, PerplexityScoring()))
    expected = [float(loss.mean().exp()) for loss in losses]
    assert scores.values == pytest.approx(expected, rel=1e-5)
    assert scores.order == sorted(range(6), key=lambda block: expected[block])
    errors = [float(loss.mean().exp() * loss.std()) / 5**0.5 for loss in losses]
    assert scores.standard_errors == pytest.approx(errors, rel=1e-3)
    assert scores.details["perplexity"] == pytest.approx(float(token_losses(model, ids).mean().exp()), rel=1e-5)


def test_takes_half_the_block_passes(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    view = BlockModel.from_model(make_model(num_hidden_layers=8))
    scores = perplexity.score(ScoringTask(view, make_ids(), PerplexityScoring()))
    assert scores.details["block_passes"] == 8 + 8 * 7 // 2


def test_samples_in_groups_give_the_same_scores(
    make_model: Callable[..., PreTrainedModel],
    make_ids: Callable[..., Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    view, ids = BlockModel.from_model(make_model(num_hidden_layers=5)), make_ids(5, 16)
    whole = perplexity.score(ScoringTask(view, ids, PerplexityScoring()))
    one_by_one = [ids[at : at + 1] for at in range(5)]
    monkeypatch.setattr(perplexity, "sample_groups", lambda *_: (slice(at, at + 1) for at in range(5)))
    assert len(one_by_one) == 5
    seen: list[tuple[int, int]] = []
    parts = perplexity.score(
        ScoringTask(view, ids, PerplexityScoring(), progress=lambda done, total, _: seen.append((done, total)))
    )
    assert parts.values == pytest.approx(whole.values, rel=1e-6)
    total = round(5 * (5 + 10 + 6 * view.head_worth))  # the head of six models
    assert seen[-1] == (total, total)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert len(seen) == 5 * (5 + 10 + 6)


def test_same_input_same_bits(make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]) -> None:
    view, ids = BlockModel.from_model(make_model(num_hidden_layers=5)), make_ids(4, 16)
    first, second = (perplexity.score(ScoringTask(view, ids, PerplexityScoring(), seed=seed)) for seed in (0, 1))
    assert first == second


def test_a_race_finds_the_same_lowest_blocks_with_fewer_samples(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    model = make_model(num_hidden_layers=8)
    with torch.no_grad():  # blocks 2 and 5 hardly matter, so the race has something to see
        for block in (2, 5):
            for name in ("self_attn.o_proj.weight", "mlp.down_proj.weight"):
                model.get_parameter(f"model.layers.{block}.{name}").mul_(0.01)
    view, ids = BlockModel.from_model(model), model_text(model, make_ids)
    full = perplexity.score(ScoringTask(view, ids, PerplexityScoring()))
    race = perplexity.score(
        ScoringTask(view, ids, PerplexityScoring(racing=True), count=2, protected=frozenset({0, 7}))
    )
    assert race.order[:2] == full.order[:2]
    assert race.details["block_passes"] < full.details["block_passes"]
    given = race.details["samples_given"]
    assert given[0] == given[7] == 0
    assert race.values[0] is None
    assert min(given[block] for block in range(1, 7)) < max(given) == 20
    for block in race.order[:2]:
        assert race.values[block] == pytest.approx(full.values[block], rel=1e-6)


def model_text(model: PreTrainedModel, make_ids: Callable[..., Tensor]) -> Tensor:
    """Tokens that the model itself finds likely, so that a block that matters is missed."""
    ids = make_ids(20, 4)
    with torch.no_grad():
        for _ in range(28):
            ids = torch.cat([ids, model(input_ids=ids, use_cache=False).logits[:, -1:].argmax(-1)], dim=1)
    return ids


def test_a_race_needs_a_count(make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]) -> None:
    view = BlockModel.from_model(make_model())
    with pytest.raises(InvalidInput) as caught:
        perplexity.score(ScoringTask(view, make_ids(), PerplexityScoring(racing=True)))
    assert caught.value.errors[0].pointer == "blocks"


def test_no_text_is_refused(make_model: Callable[..., PreTrainedModel]) -> None:
    with pytest.raises(InvalidInput, match="calibration"):
        perplexity.score(ScoringTask(BlockModel.from_model(make_model()), None, PerplexityScoring()))


def test_sample_groups_respect_the_limit(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    view, ids = BlockModel.from_model(make_model()), make_ids(7, 16)
    per_sample = 3 * 16 * 32 * 4
    groups = list(subsets.sample_groups(view, ids, 3, limit=2 * per_sample + 1))
    assert groups == [slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 7)]
    assert len(list(subsets.sample_groups(view, ids, 3, limit=1))) == 7
