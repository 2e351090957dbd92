"""Expert pruning: what is written is the original whose router never sees the experts that went, in every family."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from secateur.contract.errors import InvalidInput, UnsupportedModel
from secateur.contract.options.pruning import ExpertPruning
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.block_model import BlockModel
from workers.engine.model.loading import load_model
from workers.engine.pruning.expert_layout import expert_layout
from workers.engine.pruning.experts import ExpertsPruned, plan_experts, prune_experts, score_experts, strongest

Make = Callable[..., PreTrainedModel]
Save = Callable[..., Path]
Ids = Callable[..., Tensor]

MIXTURES = ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "gpt_oss")
CRITERIA = ("reap", "frequency", "reconstruction")


def options(experts: int = 1, criterion: str = "reap") -> ExpertPruning:
    return ExpertPruning.model_validate({"kind": "experts", "experts": experts, "criterion": criterion})


def prune(source: Path, target: Path, options: ExpertPruning, ids: Tensor) -> ExpertsPruned:
    opened = Checkpoint.open(source)
    return prune_experts(
        opened,
        target,
        plan=plan_experts(opened, options),
        criterion=options.criterion,
        ids=ids,
        device="cpu",
        dtype=torch.float32,
    )


def mixtures(model: PreTrainedModel) -> dict[int, nn.Module]:
    """The mixture of each block that has one."""
    blocks: Any = model.get_submodule("model.layers")
    return {number: block.mlp for number, block in enumerate(blocks) if hasattr(block.mlp, "experts")}


def router_of(mixture: Any) -> Any:
    return mixture.router if hasattr(mixture, "router") else mixture.gate


def gates(model: PreTrainedModel, router: Any, states: Tensor, gone: Sequence[int], top: int) -> tuple[Tensor, Tensor]:
    """Gates and numbers of the chosen experts with the logits of some at minus infinity, as each family has them."""
    logits = F.linear(states, router.weight, getattr(router, "bias", None)).index_fill(
        1, torch.tensor(gone).long(), -torch.inf
    )
    if model.config.model_type == "gpt_oss":  # the softmax is over the chosen
        values, chosen = logits.topk(top)
        return values.softmax(-1), chosen
    values, chosen = logits.softmax(-1).topk(top)
    if model.config.model_type == "mixtral" or model.config.norm_topk_prob:
        values = values / values.sum(-1, keepdim=True)
    return values, chosen


@contextmanager
def masked(model: PreTrainedModel, gone: dict[int, list[int]], top: int) -> Iterator[None]:
    """The model's routers never see these experts of each block."""

    def hook(numbers: list[int]) -> Any:
        def route(router: Any, args: tuple[Any, ...], output: Any) -> Any:
            values, chosen = gates(model, router, args[0].reshape(-1, args[0].shape[-1]), numbers, top)
            return output[0], values, chosen

        return route

    found = mixtures(model)
    handles = [router_of(found[block]).register_forward_hook(hook(numbers)) for block, numbers in gone.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def seen(model: PreTrainedModel, ids: Tensor) -> dict[int, Tensor]:
    """What enters the router of each mixture, (tokens, hidden)."""
    found: dict[int, Tensor] = {}

    def hook(block: int) -> Any:
        return lambda _, args: found.update({block: args[0].reshape(-1, args[0].shape[-1])})

    handles = [router_of(mixture).register_forward_pre_hook(hook(block)) for block, mixture in mixtures(model).items()]
    with torch.no_grad():
        model(ids, use_cache=False)
    for handle in handles:
        handle.remove()
    return found


def expert_output(model: PreTrainedModel, experts: Any, expert: int, states: Tensor) -> Tensor:
    """What one expert makes of the states, from its weights."""
    if model.config.model_type == "gpt_oss":
        up = states @ experts.gate_up_proj[expert] + experts.gate_up_proj_bias[expert]
        gate, up = up[:, ::2].clamp(max=experts.limit), up[:, 1::2].clamp(-experts.limit, experts.limit)
        inner = (up + 1) * gate * torch.sigmoid(gate * experts.alpha)
        biased: Tensor = inner @ experts.down_proj[expert] + experts.down_proj_bias[expert]
        return biased
    gate, up = (states @ experts.gate_up_proj[expert].T).chunk(2, -1)
    plain: Tensor = (F.silu(gate) * up) @ experts.down_proj[expert].T
    return plain


def plain_scores(model: PreTrainedModel, block: int, states: Tensor, criterion: str) -> Tensor:
    """The criterion token by token, as its definition reads."""
    mixture: Any = mixtures(model)[block]
    router, count, top = router_of(mixture), 4, model.config.num_experts_per_tok
    made = torch.stack([expert_output(model, mixture.experts, e, states) for e in range(count)], 1)

    def whole(gone: list[int]) -> tuple[Tensor, Tensor]:
        values, chosen = gates(model, router, states, gone, min(top, count - len(gone)))
        dense = torch.zeros(len(states), count).scatter(1, chosen, values)
        return dense, (dense[:, :, None] * made).sum(1)

    dense, given = whole([])
    found = []
    for expert in range(count):
        weights = dense[:, expert]
        if criterion == "reap":
            found.append((weights * made[:, expert].norm(dim=-1)).sum() / max(1, int((weights > 0).sum())))
        elif criterion == "frequency":
            found.append((weights > 0).float().mean())
        else:
            found.append((whole([expert])[1] - given).square().sum() / given.square().sum())
    return torch.stack(found).double()


@pytest.mark.parametrize("model_type", MIXTURES)
def test_what_is_written_is_the_original_with_experts_masked(
    model_type: str, make_model: Make, save_model: Save, make_ids: Ids, tmp_path: Path
) -> None:
    model = make_model(model_type)
    done = prune(save_model(model), tmp_path / "pruned", options(2), make_ids())

    narrow: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "pruned", output_loading_info=True)
    assert not any(narrow[1].values())
    assert narrow[0].num_parameters() == done.parameters_after < done.parameters_before == model.num_parameters()
    assert set(done.kept) == set(mixtures(model))
    assert done.notes == []
    other = make_ids(2, 10, seed=1)
    gone = {block: [e for e in range(4) if e not in kept] for block, kept in done.kept.items()}
    with torch.no_grad(), masked(model, gone, 2):
        expected = model(other, use_cache=False).logits
    with torch.no_grad():
        torch.testing.assert_close(narrow[0](other, use_cache=False).logits, expected, rtol=1e-4, atol=1e-4)
    loaded = load_model(Checkpoint.open(tmp_path / "pruned"), device=torch.device("cpu"), dtype=torch.float32)
    for name, tensor in narrow[0].state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name])


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("model_type", ["mixtral", "olmoe", "qwen3_moe", "gpt_oss"])
def test_scores_are_those_of_the_definition(
    model_type: str, criterion: str, make_model: Make, save_model: Save, make_ids: Ids
) -> None:
    model, ids = make_model(model_type), make_ids()
    checkpoint = Checkpoint.open(save_model(model))
    streamed = BlockModel.from_checkpoint(checkpoint, device="cpu", dtype=torch.float32)
    found = score_experts(streamed, expert_layout(checkpoint), ids, criterion=criterion)
    states = seen(model, ids)
    assert found.keys() == states.keys()
    with torch.no_grad():
        for block, values in found.items():
            torch.testing.assert_close(
                values, plain_scores(model, block, states[block], criterion), rtol=1e-4, atol=1e-6
            )


def test_reconstruction_where_every_token_goes_to_all_experts(
    make_model: Make, save_model: Save, make_ids: Ids
) -> None:
    model, ids = make_model("mixtral", num_experts_per_tok=4), make_ids()
    checkpoint = Checkpoint.open(save_model(model))
    streamed = BlockModel.from_checkpoint(checkpoint, device="cpu", dtype=torch.float32)
    found = score_experts(streamed, expert_layout(checkpoint), ids, criterion="reconstruction")
    with torch.no_grad():
        for block, states in seen(model, ids).items():
            expected = plain_scores(model, block, states, "reconstruction")
            torch.testing.assert_close(found[block], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_a_router_that_knows_its_number_of_experts(
    criterion: str, make_model: Make, save_model: Save, make_ids: Ids, tmp_path: Path
) -> None:
    """GLM 4's masks groups of so many, adds a correction to each expert's score, and its first block is dense."""
    model = make_model("glm4_moe")
    done = prune(save_model(model), tmp_path / "pruned", options(1, criterion), make_ids())
    assert list(done.kept) == [1, 2, 3]
    narrow: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "pruned", output_loading_info=True)
    assert not any(narrow[1].values())
    other = make_ids(2, 10, seed=1)
    for block, kept in done.kept.items():
        router = router_of(mixtures(model)[block])
        router.e_score_correction_bias[[e for e in range(4) if e not in kept]] = -1e4  # what is chosen by, and no gate
    with torch.no_grad():
        expected = model(other, use_cache=False).logits
        torch.testing.assert_close(narrow[0](other, use_cache=False).logits, expected, rtol=1e-4, atol=1e-4)


def test_reconstruction_in_pieces_is_the_same(
    make_model: Make, save_model: Save, make_ids: Ids, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Checkpoint.open(save_model(make_model("mixtral")))

    def scores() -> list[Tensor]:
        model = BlockModel.from_checkpoint(checkpoint, device="cpu", dtype=torch.float32)
        return list(score_experts(model, expert_layout(checkpoint), make_ids(), criterion="reconstruction").values())

    whole = scores()
    monkeypatch.setattr("workers.engine.pruning.expert_criteria._BYTES_AT_ONCE", 8_000)
    for left, right in zip(whole, scores(), strict=True):
        torch.testing.assert_close(left, right)


@pytest.mark.parametrize("model_type", ["mixtral", "qwen3_moe"])
def test_stacked_and_single_experts_on_disk_give_the_same_model(
    model_type: str, make_model: Make, save_model: Save, make_ids: Ids, tmp_path: Path
) -> None:
    model, ids = make_model(model_type), make_ids()
    single = save_model(model, name="single", max_shard_size="20KB")
    stacked = save_model(model, name="stacked")
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, stacked / "model.safetensors")
    assert len(Checkpoint.open(single).names()) > len(Checkpoint.open(stacked).names())
    a, b = (prune(source, tmp_path / name, options(2), ids) for source, name in ((single, "a"), (stacked, "b")))
    assert a.kept == b.kept
    assert len(Checkpoint.open(tmp_path / "a").files()) > 2
    assert any(name.endswith("experts.gate_up_proj") for name in Checkpoint.open(tmp_path / "b").names())
    left, right = (
        load_model(Checkpoint.open(tmp_path / n), device=torch.device("cpu"), dtype=torch.float32) for n in "ab"
    )
    for name, tensor in left.state_dict().items():
        assert torch.equal(tensor, right.state_dict()[name])


def test_a_token_goes_to_fewer_experts_only_where_no_more_are_left(
    make_model: Make, save_model: Save, make_ids: Ids, tmp_path: Path
) -> None:
    model = make_model("qwen3_moe")
    done = prune(save_model(model), tmp_path / "pruned", options(3, "frequency"), make_ids())
    config = json.loads((tmp_path / "pruned" / "config.json").read_text())
    assert config["num_experts_per_tok"] == 1
    assert 1 in {config.get("num_experts"), config.get("num_local_experts")}
    assert done.notes == ["A token goes to 1 experts from now on, and not to 2, since no more are left."]
    other = make_ids(2, 10, seed=1)
    gone = {block: [e for e in range(4) if e not in kept] for block, kept in done.kept.items()}
    narrow = load_model(Checkpoint.open(tmp_path / "pruned"), device=torch.device("cpu"), dtype=torch.float32)
    with torch.no_grad(), masked(model, gone, 1):
        expected = model(other, use_cache=False).logits
    with torch.no_grad():
        torch.testing.assert_close(narrow(other, use_cache=False).logits, expected, rtol=1e-4, atol=1e-4)


def test_what_stays_is_what_scores_highest(make_model: Make, save_model: Save, make_ids: Ids, tmp_path: Path) -> None:
    done = prune(save_model(make_model("mixtral")), tmp_path / "pruned", options(2), make_ids())
    for block, kept in done.kept.items():
        scores = done.scores[block]
        assert min(scores[e] for e in kept) >= max(scores[e] for e in range(4) if e not in kept)
    assert strongest(torch.tensor([1.0, 3.0, 1.0, 2.0]), 3) == [0, 1, 3]


def test_an_expert_that_no_token_is_sent_to_goes_first(
    make_model: Make, save_model: Save, make_ids: Ids, tmp_path: Path
) -> None:
    model = make_model("gpt_oss")
    for mixture in mixtures(model).values():
        router_of(mixture).bias.data[2] = -1e4
    for criterion in ("reap", "frequency"):
        done = prune(save_model(model, name=criterion), tmp_path / f"to-{criterion}", options(1, criterion), make_ids())
        assert set(map(tuple, done.kept.values())) == {(0, 1, 3)}
        assert {scores[2] for scores in done.scores.values()} == {0.0}


@pytest.mark.parametrize("dtype", [torch.bfloat16])
def test_the_dtype_on_disk_stays(
    dtype: torch.dtype, make_model: Make, save_model: Save, make_ids: Ids, tmp_path: Path
) -> None:
    model: Any = make_model("gpt_oss")
    prune(save_model(model.to(dtype)), tmp_path / "pruned", options(), make_ids())
    checkpoint = Checkpoint.open(tmp_path / "pruned")
    assert {checkpoint.dtype(name) for name in checkpoint.names()} == {"BF16"}


def test_what_cannot_be_pruned_is_refused(make_model: Make, save_model: Save) -> None:
    dense = Checkpoint.open(save_model(make_model("llama"), name="dense"))
    with pytest.raises(UnsupportedModel, match="no mixture of experts") as caught:
        plan_experts(dense, options())
    assert caught.value.errors[0].pointer == "kind"
    mixture = Checkpoint.open(save_model(make_model("mixtral"), name="mixture"))
    with pytest.raises(InvalidInput, match="removes 4 experts") as refused:
        plan_experts(mixture, options(4))
    assert refused.value.errors[0].pointer == "/pruning/experts"
    groups = Checkpoint.open(save_model(make_model("glm4_moe", n_group=2), name="groups"))
    with pytest.raises(UnsupportedModel, match="among groups of experts") as caught:
        plan_experts(groups, options())
    assert caught.value.errors[0].pointer == "kind"
