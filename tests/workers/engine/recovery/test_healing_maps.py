"""The maps of healing: which cuts, what they do to the predictions, and that none is kept that makes them worse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from secateur.contract.errors import UnsupportedModel
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.block_model import BlockModel
from workers.engine.recovery import healing_maps
from workers.engine.recovery.healing_maps import CutMap, cut_ends, fit_maps, hold_out, without_mlp

KEPT = [0, 1, 2, 5, 6, 7]  # of eight blocks, without the one in which the activations arise
MARK = 1  # the token that gets them


def massive(model: PreTrainedModel) -> PreTrainedModel:
    """The model, with a block 3 that writes a state of some 10,000 wherever the token MARK stands.

    Dimension 0 tells that token apart and is left alone by all else, as the first token of a text is by attention.
    """
    inner: Any = model.base_model
    head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]  # no annotations upstream
    with torch.no_grad():
        embedding = inner.embed_tokens.weight
        embedding[:, 0], embedding[MARK] = 0, 0
        embedding[MARK, 0] = 4
        for block in inner.layers:
            block.mlp.down_proj.weight[0] = block.self_attn.o_proj.weight[0] = 0
        mlp = inner.layers[3].mlp
        for projection in (mlp.gate_proj, mlp.up_proj):
            projection.weight[0] = 0
            projection.weight[0, 0] = 2
        mlp.down_proj.weight[:, 0] = 0
        mlp.down_proj.weight[1, 0] = 50
        head.weight.mul_(10)
    return model


def divergence(original: BlockModel, kept: list[int], maps: dict[int, Tensor], ids: Tensor) -> float:
    """Of the pruned model with these maps, by another way: whole logits of all samples at once."""
    with torch.no_grad():
        whole = pruned = original.embed(ids)
        for block in original.blocks():
            whole = block(whole)
        for block in original.blocks(kept):
            if block.index in maps:
                base, output = without_mlp(block, pruned)
                pruned = (base.double() + output.double() @ maps[block.index]).float()
            else:
                pruned = block(pruned)
        p, q = (original.head(state).log_softmax(-1).flatten(0, 1) for state in (whole, pruned))
        return float(F.kl_div(q, p, log_target=True, reduction="batchmean"))


@pytest.fixture
def heavy(make_model: Callable[..., PreTrainedModel]) -> BlockModel:
    """A model with massive activations."""
    return BlockModel.from_model(massive(make_model(num_hidden_layers=8, tie_word_embeddings=False)))


def marked(ids: Tensor) -> Tensor:
    """The samples, each beginning with MARK."""
    ids = ids.clone()
    ids[:, 0] = MARK
    return ids


def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each token count by the square of its state, as least squares has it."""
    weighted = healing_maps._Stream.pieces

    def unweighted(self: healing_maps._Stream) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for m, residual, weights in weighted(self):
            yield m, residual, torch.ones_like(weights)

    monkeypatch.setattr(healing_maps._Stream, "pieces", unweighted)


def test_where_a_few_tokens_own_the_mean_square_the_others_are_healed_too(
    heavy: BlockModel, make_ids: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, fresh = marked(make_ids(60, 16)), marked(make_ids(20, 16, seed=9))
    (cut,) = fit_maps(heavy, KEPT, ids)
    bare = divergence(heavy, KEPT, {}, fresh)
    healed = divergence(heavy, KEPT, {2: cut.map}, fresh)
    assert cut.helps
    assert healed < 0.7 * bare
    plain(monkeypatch)
    (spoilt,) = fit_maps(heavy, KEPT, ids)
    assert divergence(heavy, KEPT, {2: spoilt.map}, fresh) > bare
    assert not spoilt.helps  # so it would not be folded in


def test_the_divergences_are_those_of_the_models_on_the_held_out_samples(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    model, kept, ids = BlockModel.from_model(make_model(num_hidden_layers=8)), [1, 2, 4, 5, 7], make_ids(40, 12)
    cuts = fit_maps(model, kept, ids)
    _, held = hold_out(ids)
    assert [(cut.block, cut.last) for cut in cuts] == [(2, 3), (5, 6)]
    taken: dict[int, Tensor] = {}
    for cut in cuts:
        assert cut.kl_before == pytest.approx(divergence(model, kept, taken, held), rel=1e-4)
        assert cut.kl_after == pytest.approx(divergence(model, kept, {**taken, cut.block: cut.map}, held), rel=1e-4)
        if cut.helps:
            taken[cut.block] = cut.map


def test_a_map_that_does_not_help_is_left_out_and_the_next_is_fitted_without_it(
    heavy: BlockModel, make_ids: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, ids = [0, 1, 2, 5, 7], marked(make_ids(60, 16))
    plain(monkeypatch)
    first, second = fit_maps(heavy, kept, ids)
    assert not first.helps
    assert second.kl_before == first.kl_before
    bare, _ = fit_maps(heavy, kept, ids, ridge=1e12)  # no change to speak of
    assert bare.kl_before == pytest.approx(first.kl_before)
    assert second.kl_after == pytest.approx(divergence(heavy, kept, {5: second.map}, hold_out(ids)[1]), rel=1e-3)


def test_a_cut_at_the_beginning_has_no_map(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    model, ids = BlockModel.from_model(make_model()), make_ids(20, 12)
    assert [(cut.block, cut.last) for cut in fit_maps(model, [1, 3], ids)] == [(1, 2)]
    assert fit_maps(model, [1, 2, 3], ids) == []
    assert fit_maps(model, [0, 1, 2, 3], ids) == []


def test_a_model_streamed_from_disk_gets_the_same_maps(
    make_model: Callable[..., PreTrainedModel],
    make_ids: Callable[..., Tensor],
    save_model: Callable[..., Path],
) -> None:
    model, kept, ids = make_model(num_hidden_layers=7), [0, 2, 3, 6], make_ids(20, 12)
    path = save_model(model)
    streamed = BlockModel.from_checkpoint(Checkpoint.open(path), device="cpu", dtype=torch.float32)
    for there, here in zip(
        fit_maps(streamed, kept, ids), fit_maps(BlockModel.from_model(model), kept, ids), strict=True
    ):
        assert torch.equal(there.map, here.map)
        assert (there.ridge, there.kl_before, there.kl_after) == (here.ridge, here.kl_before, here.kl_after)


def test_held_out_samples_are_a_fifth_within_a_bound_and_one_sample_is_cut() -> None:
    def shapes(samples: int, tokens: int) -> list[tuple[int, ...]]:
        return [tuple(part.shape) for part in hold_out(torch.arange(samples * tokens).view(samples, tokens))]

    assert shapes(64, 256) == [(52, 256), (12, 256)]
    assert shapes(1000, 256) == [(984, 256), (16, 256)]
    assert shapes(3, 100_000) == [(2, 100_000), (1, 100_000)]
    assert shapes(2, 8) == [(1, 8), (1, 8)]
    assert shapes(1, 9) == [(1, 4), (1, 4)]
    fitted, held = hold_out(torch.arange(30).view(30, 1).expand(30, 8))
    assert sorted([*fitted[:, 0].tolist(), *held[:, 0].tolist()]) == list(range(30))


@pytest.mark.parametrize("samples", [1, 30])
def test_progress_ends_with_the_work(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor], samples: int
) -> None:
    told: list[tuple[int, int, str]] = []
    fit_maps(
        BlockModel.from_model(make_model(num_hidden_layers=9)),
        [1, 2, 4, 5, 7],
        make_ids(samples, 12),
        progress=lambda *at: told.append(at),
    )
    total = told[0][1]
    assert {(whole, unit) for _, whole, unit in told} == {(total, "block passes")}
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert told[-1][0] == total
    assert told[-2][0] < total


def test_cuts_are_found_at_the_end_and_in_the_middle() -> None:
    assert cut_ends([0, 1, 4, 6], 8) == {1: 3, 4: 5, 6: 7}
    assert cut_ends([0, 1, 2], 3) == {}
    assert cut_ends([2, 3], 4) == {}


@pytest.mark.parametrize("model_type", ["gemma2", "gemma3_text", "olmo2", "mixtral"])
def test_families_where_it_does_not_hold_are_refused(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor], model_type: str
) -> None:
    with pytest.raises(UnsupportedModel, match="Healing"):
        fit_maps(BlockModel.from_model(make_model(model_type)), [0, 1, 3], make_ids())


def test_a_map_helps_only_if_the_divergence_falls() -> None:
    def cut(before: float, after: float) -> CutMap:
        return CutMap(0, 1, torch.eye(2), 1.0, 1.0, 0.5, before, after)

    assert cut(2.0, 1.9).helps
    assert not cut(2.0, 2.0).helps
    assert not cut(2.0, float("nan")).helps
