"""What healing fits: for which cuts and blocks, what it does to the predictions, and that nothing makes them worse."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from secateur.contract.errors import UnsupportedModel
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.healing import fit, least_squares, walk
from workers.engine.healing.cuts import cut_ends
from workers.engine.healing.judge import hold_out
from workers.engine.healing.neurons import Transplant
from workers.engine.healing.projections import BlockChange, changed
from workers.engine.healing.walk import CutFit, HealingSettings, Refitted, fit_healing
from workers.engine.model.block_model import Block, BlockModel

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


CUTS_ALONE = HealingSettings(refit="none")


def divergence(original: BlockModel, kept: list[int], changes: Mapping[int, BlockChange], ids: Tensor) -> float:
    """Of the pruned model with these changes, by another way: whole logits of all samples at once."""
    with torch.no_grad():
        whole = pruned = original.embed(ids)
        for block in original.blocks():
            whole = block(whole)
        for block in original.blocks(kept):
            with changed(block.module, changes.get(block.index, {})):
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
    weighted = fit.lacking

    def unweighted(*rest: Any) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for inputs, lacking, weights in weighted(*rest):
            yield inputs, lacking, torch.ones_like(weights)

    monkeypatch.setattr(fit, "lacking", unweighted)


def test_where_a_few_tokens_own_the_mean_square_the_others_are_healed_too(
    heavy: BlockModel, make_ids: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, fresh = marked(make_ids(60, 16)), marked(make_ids(20, 16, seed=9))
    (cut,) = fit_healing(heavy, KEPT, ids, settings=CUTS_ALONE).cuts
    bare = divergence(heavy, KEPT, {}, fresh)
    healed = divergence(heavy, KEPT, {2: cut.change}, fresh)
    assert cut.helps
    assert healed < 0.7 * bare
    plain(monkeypatch)
    (spoilt,) = fit_healing(heavy, KEPT, ids, settings=CUTS_ALONE).cuts
    assert divergence(heavy, KEPT, {2: spoilt.change}, fresh) > healed


@pytest.mark.parametrize("refit", ["none", "after_cut"])
def test_the_divergences_are_those_of_the_models_on_the_held_out_samples(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor], refit: walk.Refit
) -> None:
    model, kept, ids = BlockModel.from_model(make_model(num_hidden_layers=8)), [1, 2, 4, 5, 7], make_ids(40, 12)
    found = fit_healing(model, kept, ids, settings=HealingSettings(refit=refit))
    _, held = hold_out(ids)
    assert [(cut.block, cut.last) for cut in found.cuts] == [(2, 3), (5, 6)]
    assert [group.blocks for group in found.refitted] == ([] if refit == "none" else [(4,), (7,)])
    steps: list[tuple[CutFit | Refitted, Mapping[int, BlockChange]]] = []
    for cut in found.cuts:
        steps.append((cut, {cut.block: cut.change}))
        steps += [(group, group.changes) for group in found.refitted if group.blocks == (cut.last + 1,)]
    # block 5 stands before a cut, so it is fitted as its cut and not among those after the first
    steps.sort(key=lambda step: min(step[1]))
    taken: dict[int, BlockChange] = {}
    for step, changes in steps:
        assert step.kl_before == pytest.approx(divergence(model, kept, taken, held), rel=1e-4)
        assert step.kl_after == pytest.approx(divergence(model, kept, {**taken, **changes}, held), rel=1e-4)
        if step.helps:
            taken.update(changes)
    assert set(taken) == set(found.taken())


def test_blocks_after_a_cut_are_fitted_too_and_the_predictions_come_nearer(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    model, kept = BlockModel.from_model(make_model(num_hidden_layers=8)), [0, 1, 2, 5, 6, 7]
    ids, fresh = make_ids(200, 16), make_ids(40, 16, seed=9)
    cuts = fit_healing(model, kept, ids, settings=CUTS_ALONE)
    whole = fit_healing(model, kept, ids)
    assert [group.blocks for group in whole.refitted] == [(5, 6, 7)]
    assert set(whole.refitted[0].changes[6]) == {"self_attn.o_proj.weight", "mlp.down_proj.weight"}
    assert whole.cuts[0].kl_after == cuts.cuts[0].kl_after
    assert whole.refitted[0].kl_before == cuts.cuts[0].kl_after
    distances = [divergence(model, kept, change, fresh) for change in ({}, cuts.taken(), whole.taken())]
    assert distances[0] > distances[1] > distances[2]


def test_in_bf16_the_same_is_fitted(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    model: Any = make_model(num_hidden_layers=8)
    kept, ids = [0, 1, 2, 5, 6, 7], make_ids(100, 16)
    wide = fit_healing(BlockModel.from_model(model), kept, ids)
    narrow = fit_healing(BlockModel.from_model(model.bfloat16()), kept, ids)
    assert [group.blocks for group in narrow.refitted] == [(5, 6, 7)]
    for ours, theirs in ((narrow.cuts[0], wide.cuts[0]), (narrow.refitted[0], wide.refitted[0])):
        assert ours.helps
        assert ours.kl_after == pytest.approx(theirs.kl_after, rel=0.1)


def test_what_does_not_help_is_left_out_and_the_next_is_fitted_without_it(
    heavy: BlockModel, make_ids: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, ids = [0, 1, 2, 5, 7], marked(make_ids(60, 16))
    real = least_squares.fit_change
    calls: list[int] = []

    def spoiling(*arguments: Any, **options: Any) -> Any:
        """The first of the fits is turned round."""
        found = real(*arguments, **options)
        calls.append(0)
        return found if len(calls) > 1 else replace(found, change=-20 * found.change)

    monkeypatch.setattr(fit, "fit_change", spoiling)
    first, second = fit_healing(heavy, kept, ids, settings=CUTS_ALONE).cuts
    assert not first.helps
    assert second.kl_before == first.kl_before
    assert second.kl_after == pytest.approx(divergence(heavy, kept, {5: second.change}, hold_out(ids)[1]), rel=1e-3)


def test_blocks_that_do_not_help_are_walked_again_as_they_were(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, kept, ids = BlockModel.from_model(make_model(num_hidden_layers=8)), [0, 1, 3, 4, 6, 7], make_ids(40, 12)
    real = least_squares.fit_change
    calls: list[int] = []

    def spoiling(*arguments: Any, **options: Any) -> Any:
        """The second and third, those of block 3, are turned round."""
        found = real(*arguments, **options)
        calls.append(0)
        return replace(found, change=-20 * found.change) if len(calls) in (2, 3) else found

    monkeypatch.setattr(fit, "fit_change", spoiling)
    found = fit_healing(model, kept, ids)
    first, second = found.cuts
    group, after = found.refitted
    assert (group.blocks, after.blocks) == ((3,), (6, 7))
    assert not group.helps
    assert 3 not in found.taken()
    _, held = hold_out(ids)
    taken = {1: first.change, 4: second.change} if first.helps else {4: second.change}
    assert second.kl_before == min(first.kl_before, first.kl_after)
    assert second.kl_after == pytest.approx(divergence(model, kept, taken, held), rel=1e-4)


def test_a_cut_at_the_beginning_is_left(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    model, ids = BlockModel.from_model(make_model()), make_ids(20, 12)
    assert [(cut.block, cut.last) for cut in fit_healing(model, [1, 3], ids).cuts] == [(1, 2)]
    assert fit_healing(model, [1, 2, 3], ids).cuts == []
    assert fit_healing(model, [0, 1, 2, 3], ids).cuts == []


@pytest.mark.parametrize("neurons", [0, 0.5])
def test_a_model_streamed_from_disk_gets_the_same_changes(
    make_model: Callable[..., PreTrainedModel],
    make_ids: Callable[..., Tensor],
    save_model: Callable[..., Path],
    neurons: float,
) -> None:
    settings = HealingSettings(neurons=neurons)
    model, kept, ids = make_model(num_hidden_layers=7), [0, 2, 3, 6], make_ids(20, 12)
    streamed = BlockModel.from_checkpoint(Checkpoint.open(save_model(model)), device="cpu", dtype=torch.float32)
    views = (streamed, BlockModel.from_model(model))
    there, here = (fit_healing(view, kept, ids, settings=settings) for view in views)
    assert [(cut.ridge, cut.neurons, cut.kl_before, cut.kl_after) for cut in there.cuts] == [
        (cut.ridge, cut.neurons, cut.kl_before, cut.kl_after) for cut in here.cuts
    ]
    assert there.taken().keys() == here.taken().keys()
    for block, change in here.taken().items():
        for name, added in change.items():
            assert torch.equal(there.taken()[block][name], added)


def talkative(make_model: Callable[..., PreTrainedModel]) -> PreTrainedModel:
    """A model whose block 3 does much in a few neurons, while half of those of block 2 do next to nothing."""
    model: Any = make_model(num_hidden_layers=6)
    with torch.no_grad():
        for number, neurons, factor in ((2, slice(0, 24), 1e-3), (3, slice(10, 20), 4.0)):
            mlp = model.model.layers[number].mlp
            for projection in (mlp.gate_proj, mlp.up_proj):
                projection.weight[neurons] *= factor
    return cast(PreTrainedModel, model)


NEURONS = HealingSettings(refit="none", neurons=0.5)


def test_neurons_of_a_removed_block_go_on_where_idle_ones_stood_and_the_predictions_come_nearer(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    model, kept, fresh = BlockModel.from_model(talkative(make_model)), [0, 1, 2, 4, 5], make_ids(40, 16, seed=9)
    ids = make_ids(100, 16)
    (alone,) = fit_healing(model, kept, ids, settings=CUTS_ALONE).cuts
    (cut,) = fit_healing(model, kept, ids, settings=NEURONS).cuts
    assert (alone.neurons, cut.neurons) == (0, 24)
    assert set(cut.change) == {f"mlp.{name}_proj.weight" for name in ("gate", "up", "down")}
    assert (cut.error_before, cut.kl_before) == (alone.error_before, alone.kl_before)
    assert cut.kl_after < 0.9 * alone.kl_after
    assert cut.kl_after == pytest.approx(divergence(model, kept, {2: cut.change}, hold_out(ids)[1]), rel=1e-3)
    assert divergence(model, kept, {2: cut.change}, fresh) < 0.9 * divergence(model, kept, {2: alone.change}, fresh)


def test_neurons_that_do_not_help_are_not_taken(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, kept, ids = BlockModel.from_model(talkative(make_model)), [0, 1, 2, 4, 5], make_ids(100, 16)
    (alone,) = fit_healing(model, kept, ids, settings=CUTS_ALONE).cuts

    def idle(transplant: Transplant, block: Block) -> dict[str, Tensor]:
        return {"mlp.gate_proj.weight": -block.module.get_parameter("mlp.gate_proj.weight").data}

    monkeypatch.setattr(Transplant, "change", idle)
    (cut,) = fit_healing(model, kept, ids, settings=NEURONS).cuts
    assert cut.helps
    assert (cut.neurons, cut.kl_after) == (0, alone.kl_after)
    assert torch.equal(cut.change["mlp.down_proj.weight"], alone.change["mlp.down_proj.weight"])


@pytest.mark.parametrize("model_type", ["gemma3_text", "mixtral", "olmoe", "falcon"])
def test_neurons_are_refused_where_none_can_be_taken(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor], model_type: str
) -> None:
    """A norm after the MLP, experts, and norms with biases before projections that have none."""
    model = BlockModel.from_model(make_model(model_type))
    with pytest.raises(UnsupportedModel, match="neurons") as refused:
        fit_healing(model, [0, 1, 3], make_ids(20, 12), settings=NEURONS)
    assert [(item.pointer, item.value) for item in refused.value.errors] == [("neurons", 0.5)]


def test_neurons_are_refused_where_the_checkpoint_cannot_take_them(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    settings = replace(NEURONS, changeable=lambda block, name: "gate" not in name)
    with pytest.raises(UnsupportedModel, match="Block 1 cannot take neurons"):
        fit_healing(BlockModel.from_model(make_model()), [0, 1, 3], make_ids(20, 12), settings=settings)


@pytest.mark.parametrize("model_type", ["gpt2", "qwen3"])
def test_a_gpt_2_and_a_qwen_3_come_nearer_to_the_original_by_far_more_than_chance(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor], model_type: str
) -> None:
    model, kept = BlockModel.from_model(make_model(model_type, num_hidden_layers=6)), [0, 1, 4, 5]
    found = fit_healing(model, kept, make_ids(100, 16))
    assert [step.helps for step in found.cuts] == [True]
    fresh = make_ids(40, 16, seed=9)
    assert divergence(model, kept, found.taken(), fresh) < 0.9 * divergence(model, kept, {}, fresh)


@pytest.mark.parametrize("model_type", ["gemma2", "gemma3_text", "olmo2", "mixtral", "qwen3_moe", "olmoe", "gpt_oss"])
def test_where_no_closed_form_holds_the_block_before_the_cut_is_trained(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor], model_type: str
) -> None:
    model, kept, ids = BlockModel.from_model(make_model(model_type)), [0, 1, 3], make_ids(60, 16)
    found = fit_healing(model, kept, ids)
    (cut,) = found.cuts
    assert (cut.block, cut.last, cut.ridge) == (1, 2, None)
    assert cut.error_after < cut.error_before
    assert cut.helps
    fresh = make_ids(20, 16, seed=9)
    assert divergence(model, kept, {1: cut.change}, fresh) < divergence(model, kept, {}, fresh)


def test_what_the_checkpoint_cannot_take_is_not_changed(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    model = BlockModel.from_model(make_model(num_hidden_layers=6))
    settings = HealingSettings(changeable=lambda block, name: (block, name) != (4, "mlp.down_proj.weight"))
    found = fit_healing(model, [0, 1, 4, 5], make_ids(40, 12), settings=settings)
    (group,) = found.refitted
    assert group.blocks == (5,)
    settings = HealingSettings(changeable=lambda block, name: "norm" in name)
    (cut,) = fit_healing(model, [0, 1, 4, 5], make_ids(40, 12), settings=settings).cuts
    assert cut.ridge is None
    assert {name.rpartition(".")[0] for name in cut.change} <= {"input_layernorm", "post_attention_layernorm"}


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
@pytest.mark.parametrize(
    ("model_type", "refit", "neurons"),
    [("llama", "none", 0), ("llama", "none", 0.5), ("llama", "after_cut", 0), ("gemma2", "after_cut", 0)],
)
def test_progress_ends_with_the_work(
    make_model: Callable[..., PreTrainedModel],
    make_ids: Callable[..., Tensor],
    model_type: str,
    refit: walk.Refit,
    neurons: float,
    samples: int,
) -> None:
    told: list[tuple[int, int, str]] = []
    fit_healing(
        BlockModel.from_model(make_model(model_type, num_hidden_layers=9)),
        [1, 2, 4, 5, 7],
        make_ids(samples, 12),
        settings=HealingSettings(refit=refit, neurons=neurons),
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


def test_a_change_helps_only_if_the_divergence_falls() -> None:
    for after, helps in ((1.9, True), (2.0, False), (float("nan"), False)):
        assert CutFit(0, 1, {}, 1.0, 1.0, 0.5, 2.0, after).helps is helps
        assert Refitted((3,), {}, 2.0, after).helps is helps
