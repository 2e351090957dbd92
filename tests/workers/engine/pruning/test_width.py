"""Width pruning: the narrow model is the original whose pruned channels are silent, or their mean, in every family."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from secateur.contract.errors import BadCheckpoint, InvalidInput, StageFailed, UnsupportedModel
from secateur.contract.options.width import FlapPruning, LlmPrunerPruning, WandaSpPruning, WidthPruning
from secateur.contract.width import TOLERANCE
from workers.engine.architectures.registry import architecture_of
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.own_loader import LOADER_FILE
from workers.engine.checkpoints.patch import patch_checkpoint
from workers.engine.model.loading import load_model
from workers.engine.pruning.channels import Kept
from workers.engine.pruning.moments import Moments
from workers.engine.pruning.width import WidthPruned, prune_width

Make = Callable[..., PreTrainedModel]
Save = Callable[..., Path]
Ids = Callable[..., Tensor]

EXPERTS = {"mixtral", "qwen2_moe", "qwen3_moe"}
# Norms over the queries of all heads: what is left of them is scaled otherwise when heads go.
NORMED = {"olmo2"}

OPTIONS: Mapping[str, WidthPruning] = {
    "wanda_sp": WandaSpPruning(kind="wanda_sp", ratio=0.2),
    "flap": FlapPruning(kind="flap", ratio=0.2),
    "flap, plain": FlapPruning(kind="flap", ratio=0.2, compensate=False),
    "flap, uneven": FlapPruning(kind="flap", ratio=0.2, uniform=False),
    "llm_pruner": LlmPrunerPruning(kind="llm_pruner", ratio=0.2),
    "llm_pruner, uneven": LlmPrunerPruning(
        kind="llm_pruner", ratio=0.12, uniform=False, keep_first=1, keep_last=1, importance="param_mix"
    ),
}


def prune(source: Path, target: Path, options: WidthPruning, ids: Tensor) -> WidthPruned:
    return prune_width(Checkpoint.open(source), target, options=options, ids=ids, device="cpu", dtype=torch.float32)


def projections(model: PreTrainedModel) -> list[tuple[nn.Module, nn.Module]]:
    """The attention's output and the down-projection of every block."""
    row = architecture_of(model.config)
    down = f"{row.mlp}.{row.down}".lstrip(".")
    blocks = model.get_submodule(row.blocks_prefix).children()
    return [
        (block.get_submodule(f"{row.attention}.{row.attention_output}"), block.get_submodule(down)) for block in blocks
    ]


@contextmanager
def replaced(modules: list[nn.Module], masks: list[Tensor], values: list[Tensor]) -> Iterator[None]:
    """Give each module, where its mask is set, `values` in place of the input."""

    def hook(mask: Tensor, value: Tensor) -> Any:
        return lambda module, args: (torch.where(mask, value, args[0]),)

    handles = [
        module.register_forward_pre_hook(hook(mask, value))
        for module, mask, value in zip(modules, masks, values, strict=True)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def oracle(model: PreTrainedModel, kept: list[Kept], ids: Tensor, *, means_of: Tensor | None) -> Tensor:
    """Logits of the original whose pruned channels are zero, or the mean that they have on the tokens `means_of`."""
    modules = [module for pair in projections(model) for module in pair]
    sizes = [_inputs(module) for module in modules]
    means = [torch.zeros(size) for size in sizes]
    if means_of is not None:
        found = watched(model, modules, means_of)
        means = [states.mean(0) for states in found]
    masks = []
    for number, size in enumerate(sizes):
        block = kept[number // 2]
        units = block.groups if number % 2 == 0 else block.neurons
        count = _groups(model) if number % 2 == 0 else size
        mask = torch.ones(count, dtype=torch.bool)
        mask[list(units)] = False
        masks.append(mask.repeat_interleave(size // count))
    with replaced(modules, masks, means), torch.no_grad():
        logits: Tensor = model(ids, use_cache=False).logits
    return logits


def watched(model: PreTrainedModel, modules: list[nn.Module], ids: Tensor) -> list[Tensor]:
    """What enters each module, (tokens, channels), in one forward pass of the whole model."""
    found: dict[nn.Module, Tensor] = {}

    def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
        found[module] = args[0].reshape(-1, args[0].shape[-1])

    handles = [module.register_forward_pre_hook(hook) for module in modules]
    with torch.no_grad():
        model(ids, use_cache=False)
    for handle in handles:
        handle.remove()
    return [found[module] for module in modules]


def _inputs(module: nn.Module) -> int:
    weight = module.get_parameter("weight")
    return weight.shape[1] if isinstance(module, nn.Linear) else weight.shape[0]


def _groups(model: PreTrainedModel) -> int:
    return int(getattr(model.config, "num_key_value_heads", None) or model.config.num_attention_heads)


@pytest.mark.parametrize("method", ["wanda_sp", "flap", "flap, uneven", "llm_pruner, uneven"])
def test_every_family(
    family: str, method: str, make_model: Make, save_model: Save, make_ids: Ids, tmp_path: Path
) -> None:
    model, ids = make_model(family), make_ids(4, 12)
    source, target = save_model(model), tmp_path / "pruned"
    options = OPTIONS[method]
    if family in EXPERTS:
        with pytest.raises(UnsupportedModel, match="mixture of experts"):
            prune(source, target, options, ids)
        assert not target.exists()
        return
    done = prune(source, target, options, ids)

    assert abs(done.ratio - options.ratio) <= TOLERANCE
    narrow = load_model(Checkpoint.open(target), device=torch.device("cpu"), dtype=torch.float32)
    assert narrow.num_parameters() == done.parameters_after
    assert model.num_parameters() == done.parameters_before
    assert done.parameters_after == round(done.parameters_before * (1 - done.ratio))
    uneven = "uneven" in method
    assert done.needs_loader == (target / LOADER_FILE).is_file()
    assert done.needs_loader or not uneven
    if not done.needs_loader:
        loaded: Any = AutoModelForCausalLM.from_pretrained(target, output_loading_info=True)
        assert not any(loaded[1].values())
        assert len(set(zip(done.groups, done.neurons, strict=True))) == 1

    other = make_ids(2, 10, seed=1)
    with torch.no_grad():
        logits = narrow(other, use_cache=False).logits
    if family not in NORMED or set(done.groups) == {_groups(model)}:
        compensated = getattr(options, "compensate", False)
        expected = oracle(model, done.kept, other, means_of=ids if compensated else None)
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    cached, plain = (
        narrow.generate(other[:1, :4], max_new_tokens=6, do_sample=False, use_cache=use_cache, pad_token_id=0)  # type: ignore[operator]  # a method of the mixin
        for use_cache in (True, False)
    )
    assert torch.equal(cached, plain)


@pytest.mark.parametrize("heads", [(4, 4), (4, 2)])
def test_heads_go_in_whole_groups(
    heads: tuple[int, int], make_model: Make, save_model: Save, make_ids: Ids, tmp_path: Path
) -> None:
    """With and without grouped-query attention."""
    model = make_model("mistral", num_attention_heads=heads[0], num_key_value_heads=heads[1])
    options = WandaSpPruning(kind="wanda_sp", ratio=0.3)
    done = prune(save_model(model), tmp_path / "pruned", options, make_ids())
    config = json.loads((tmp_path / "pruned" / "config.json").read_text())
    assert done.groups[0] < heads[1]
    assert config["num_key_value_heads"] == done.groups[0]
    assert config["num_attention_heads"] == done.groups[0] * heads[0] // heads[1]
    assert config["head_dim"] == 8
    assert config["intermediate_size"] == done.neurons[0]


def test_a_config_class_that_takes_few_head_counts_is_respected(
    make_model: Make, save_model: Save, make_ids: Ids, tmp_path: Path
) -> None:
    """Llama's takes those that divide the hidden size: 4, 2 and 1 of 4 heads, and not 3."""
    model = make_model("llama", num_key_value_heads=4)
    done = prune(save_model(model), tmp_path / "pruned", WandaSpPruning(kind="wanda_sp", ratio=0.2), make_ids())
    assert done.groups[0] in (1, 2, 4)
    assert any("takes only some numbers of heads" in note for note in done.notes)


@pytest.mark.parametrize("multiple", [8, 64])
@pytest.mark.parametrize("method", ["wanda_sp", "flap, uneven", "llm_pruner"])
def test_neurons_in_multiples(
    multiple: int, method: str, make_model: Make, save_model: Save, make_ids: Ids, tmp_path: Path
) -> None:
    model = make_model("mistral", intermediate_size=512, num_hidden_layers=6, num_attention_heads=8)
    options = OPTIONS[method].model_copy(update={"multiple": multiple, "ratio": 0.25})
    done = prune(save_model(model), tmp_path / "pruned", options, make_ids())
    assert all(neurons % multiple == 0 for neurons in done.neurons)
    assert abs(done.ratio - 0.25) <= TOLERANCE


def test_shards_stay_shards(make_model: Make, save_model: Save, make_ids: Ids, tmp_path: Path) -> None:
    model = make_model("granite")  # with biases by a config switch, which land beside their weights
    ids = make_ids()
    whole = prune(save_model(model, name="whole"), tmp_path / "a", OPTIONS["flap"], ids)
    source = save_model(model, name="shards", max_shard_size="20KB")
    assert len(Checkpoint.open(source).files()) > 2
    sharded = prune(source, tmp_path / "b", OPTIONS["flap"], ids)
    assert [file.name for file in Checkpoint.open(tmp_path / "b").files()] == [
        file.name for file in Checkpoint.open(source).files()
    ]
    assert not whole.needs_loader
    assert sharded.bytes_after == whole.bytes_after
    left, right = (
        load_model(Checkpoint.open(tmp_path / n), device=torch.device("cpu"), dtype=torch.float32) for n in "ab"
    )
    for name, tensor in left.state_dict().items():
        assert torch.equal(tensor, right.state_dict()[name])
    index = json.loads((tmp_path / "b" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sharded.bytes_after


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_dtype_on_disk_stays(
    dtype: torch.dtype, make_model: Make, save_model: Save, make_ids: Ids, tmp_path: Path
) -> None:
    model: Any = make_model("llama")
    prune(save_model(model.to(dtype)), tmp_path / "pruned", OPTIONS["flap"], make_ids())
    names = {"BF16": torch.bfloat16, "F16": torch.float16}
    checkpoint = Checkpoint.open(tmp_path / "pruned")
    assert {names[checkpoint.dtype(name)] for name in checkpoint.names()} == {dtype}


@pytest.mark.thorough
def test_the_loader_needs_nothing_of_this_project(
    make_model: Make, save_model: Save, make_ids: Ids, tmp_path: Path
) -> None:
    target = tmp_path / "elsewhere" / "pruned"
    prune(save_model(make_model("llama")), target, OPTIONS["flap, uneven"], make_ids())
    script = (
        "import sys, torch\n"
        "from modeling_secateur import load\n"
        "model = load('.', dtype=torch.bfloat16)\n"
        "assert model.dtype is torch.bfloat16 and not model.training\n"
        "assert not [name for name in sys.modules if name.split('.')[0] in ('app', 'workers')]\n"
        "print(type(model).__name__, model.generate(torch.tensor([[3, 4]]), max_new_tokens=3, pad_token_id=0).shape)\n"
    )
    command = [sys.executable, "-W", "ignore", "-P", "-c", f"import sys; sys.path.insert(0, '.')\n{script}"]
    run = subprocess.run(command, cwd=target, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("LlamaForCausalLM torch.Size([1, 5])")


def test_others_do_not_load_uneven_widths_by_mistake(
    make_model: Make, save_model: Save, make_ids: Ids, tmp_path: Path
) -> None:
    target = tmp_path / "pruned"
    prune(save_model(make_model("llama")), target, OPTIONS["flap, uneven"], make_ids())
    with pytest.raises(ValueError, match="secateur"):
        AutoModelForCausalLM.from_pretrained(target)


def test_the_loader_refuses_what_is_incomplete(
    make_model: Make, save_model: Save, make_ids: Ids, tmp_path: Path
) -> None:
    source, target = save_model(make_model("llama")), tmp_path / "pruned"
    prune(source, target, OPTIONS["flap, uneven"], make_ids())
    config = json.loads((target / "config.json").read_text())
    config["secateur"]["biases"] = []
    (target / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadCheckpoint, match="unexpected keys"):
        load_model(Checkpoint.open(target), device=torch.device("cpu"), dtype=torch.float32)
    config["secateur"]["version"] = 99
    (target / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadCheckpoint, match="another version of this file"):
        load_model(Checkpoint.open(target), device=torch.device("cpu"), dtype=torch.float32)


def test_what_the_first_version_of_the_loader_wrote_still_loads(
    make_model: Make, save_model: Save, make_ids: Ids, tmp_path: Path
) -> None:
    target, ids = tmp_path / "pruned", make_ids()
    prune(save_model(make_model("llama")), target, OPTIONS["flap, uneven"], ids)
    now = load_model(Checkpoint.open(target), device=torch.device("cpu"), dtype=torch.float32)
    config = json.loads((target / "config.json").read_text())
    assert config["secateur"]["version"] == 2
    config["secateur"]["version"] = 1  # the section of widths has not changed since
    (target / "config.json").write_text(json.dumps(config))
    then = load_model(Checkpoint.open(target), device=torch.device("cpu"), dtype=torch.float32)
    with torch.no_grad():
        assert torch.equal(now(ids).logits, then(ids).logits)


def test_a_recovered_uneven_checkpoint_has_the_loader_too(
    make_model: Make, save_model: Save, make_ids: Ids, tmp_path: Path
) -> None:
    target = tmp_path / "pruned"
    prune(save_model(make_model("llama")), target, OPTIONS["flap, uneven"], make_ids())
    checkpoint = Checkpoint.open(target)
    patch_checkpoint(checkpoint, tmp_path / "recovered", {"model.norm.weight": lambda weight: weight * 2})
    assert (tmp_path / "recovered" / LOADER_FILE).read_bytes() == (target / LOADER_FILE).read_bytes()
    load_model(Checkpoint.open(tmp_path / "recovered"), device=torch.device("cpu"), dtype=torch.float32)


def test_the_same_twice_is_the_same_to_the_bit(
    make_model: Make, save_model: Save, make_ids: Ids, tmp_path: Path
) -> None:
    source, ids = save_model(make_model("llama")), make_ids()
    for name in "ab":
        prune(source, tmp_path / name, OPTIONS["llm_pruner, uneven"], ids)
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()


@pytest.mark.parametrize("ratio", [0.9, 0.001])
def test_a_ratio_that_cannot_be_reached(
    ratio: float, make_model: Make, save_model: Save, make_ids: Ids, tmp_path: Path
) -> None:
    options = WandaSpPruning(kind="wanda_sp", ratio=ratio, multiple=8)
    model = make_model("llama", intermediate_size=64, vocab_size=400)
    if ratio < TOLERANCE:  # nothing goes, and that is within the tolerance
        assert prune(save_model(model), tmp_path / "pruned", options, make_ids()).ratio <= TOLERANCE
        return
    with pytest.raises(InvalidInput, match="The nearest ratio that can be reached") as caught:
        prune(save_model(model), tmp_path / "pruned", options, make_ids())
    assert caught.value.errors[0].pointer == "ratio"
    assert not (tmp_path / "pruned").exists()


def test_all_blocks_kept_whole(make_model: Make, save_model: Save, make_ids: Ids, tmp_path: Path) -> None:
    options = LlmPrunerPruning(kind="llm_pruner", ratio=0.2, uniform=False)  # the first 4 and the last 2 of 4
    with pytest.raises(InvalidInput, match="kept whole, and the model has 4"):
        prune(save_model(make_model("llama")), tmp_path / "pruned", options, make_ids())


def test_quantised_weights_are_refused(make_model: Make, save_model: Save, make_ids: Ids, tmp_path: Path) -> None:
    source = save_model(make_model("llama"))
    config = json.loads((source / "config.json").read_text())
    config |= {"quantization_config": {"quant_method": "gptq", "bits": 4}}
    (source / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModel, match="quantised"):
        prune(source, tmp_path / "pruned", OPTIONS["wanda_sp"], make_ids())


def test_nothing_is_overwritten(make_model: Make, save_model: Save, make_ids: Ids, tmp_path: Path) -> None:
    source = save_model(make_model("llama"))
    shutil.copytree(source, tmp_path / "pruned")
    with pytest.raises(StageFailed, match="exists already"):
        prune(source, tmp_path / "pruned", OPTIONS["wanda_sp"], make_ids())


def test_moments_against_one_pass_over_all_tokens() -> None:
    torch.manual_seed(0)
    states = torch.randn(50, 7).double() + 3
    moments = Moments(50, states.sum(0), states.square().sum(0))
    torch.testing.assert_close(moments.mean, states.mean(0))
    torch.testing.assert_close(moments.variance, states.var(0, unbiased=False))
    torch.testing.assert_close(moments.norm, states.norm(dim=0))
