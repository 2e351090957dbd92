"""Sub-block pruning: the pruned model is the original with those halves passed by, in every family, cached or not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedModel, StaticCache

from secateur.contract.errors import BadCheckpoint, InvalidInput, UnsupportedModel
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.own_loader import LOADER_FILE
from workers.engine.checkpoints.patch import patch_checkpoint
from workers.engine.model.block_model import BlockModel
from workers.engine.model.loading import load_model
from workers.engine.model.reduced_blocks import without_halves
from workers.engine.pruning.depth import prune_depth
from workers.engine.pruning.sub_block import prune_sub_block
from workers.engine.pruning.sub_block_layout import halves_layout
from workers.engine.quantise.linear_weights import quantise_linear

Make = Callable[..., PreTrainedModel]
Save = Callable[..., Path]
Ids = Callable[..., Tensor]

# Block 0 has no attention, so the first layer of the cache gets no keys; block 1 goes whole; block 3 has no MLP.
DROP = ["0.attention", "1.attention", "1.mlp", "3.mlp"]


def load(path: Path) -> PreTrainedModel:
    return load_model(Checkpoint.open(path), device=torch.device("cpu"), dtype=torch.float32)


def bypassed(model: PreTrainedModel, drop: Collection[str], ids: Tensor) -> Tensor:
    """Logits of the original whose halves `drop` add nothing."""
    view = BlockModel.from_model(model)
    state = view.embed(ids)
    with torch.no_grad():
        for block in view.blocks():
            halves = [half for half in ("attention", "mlp") if f"{block.index}.{half}" in drop]
            if len(halves) == 2:  # it goes whole, with the norms of the stream that OPT-350M has in it
                continue
            with without_halves(block, halves):  # type: ignore[arg-type]  # their names
                state = block(state)
        return view.head(state)


@contextmanager
def counted(model: PreTrainedModel) -> Iterator[list[int]]:
    """The lengths of the inputs that the model is called with."""
    seen: list[int] = []
    with ExitStack() as stack:
        hook = model.get_input_embeddings().register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
        stack.callback(hook.remove)
        yield seen


def test_every_family(family: str, make_model: Make, save_model: Save, make_ids: Ids, tmp_path: Path) -> None:
    model: Any = make_model(family)
    source, target = save_model(model), tmp_path / "pruned"
    done = prune_sub_block(Checkpoint.open(source), target, drop=DROP)
    assert done.removed == DROP
    assert (done.kept, done.dropped) == ([0, 2, 3], [1])
    assert done.needs_loader
    assert (target / LOADER_FILE).is_file()

    pruned: Any = load(target)
    ids = make_ids(2, 11, seed=1)
    with torch.no_grad():
        logits = pruned(ids, use_cache=False).logits
    torch.testing.assert_close(logits, bypassed(model, DROP, ids), rtol=1e-5, atol=1e-5)

    assert done.parameters_before == model.num_parameters()
    assert done.parameters_after == pruned.num_parameters()
    assert done.bytes_after == Checkpoint.open(target).total_bytes == 4 * done.parameters_after
    tied = model.config.tie_word_embeddings
    same = pruned.get_output_embeddings().weight is pruned.get_input_embeddings().weight
    assert same == tied

    prompt = make_ids(2, 7, seed=2)
    with counted(pruned) as lengths:
        cached = pruned.generate(prompt, max_new_tokens=8, do_sample=False, use_cache=True, pad_token_id=0)
    assert lengths == [7] + [1] * 7
    plain = pruned.generate(prompt, max_new_tokens=8, do_sample=False, use_cache=False, pad_token_id=0)
    assert torch.equal(cached, plain)
    with torch.no_grad():  # the cache in pieces gives the logits of the whole
        first = pruned(ids[:, :6], use_cache=True)
        second = pruned(ids[:, 6:], cache=first.cache, use_cache=True)
    assert first.cache.get_seq_length() == 11
    torch.testing.assert_close(torch.cat([first.logits, second.logits], 1), logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("drop", [["0.attention"], ["0.mlp", "3.attention"], ["1.attention", "2.attention"]])
@pytest.mark.parametrize("model_type", ["llama", "gemma2", "gpt_neox", "opt"])
def test_left_padding_and_caches_of_other_kinds(
    model_type: str, drop: list[str], make_model: Make, save_model: Save, make_ids: Ids, tmp_path: Path
) -> None:
    """Positions and masks come from the cache's length, whichever layers fill it."""
    prune_sub_block(Checkpoint.open(save_model(make_model(model_type))), tmp_path / "pruned", drop=drop)
    model: Any = load(tmp_path / "pruned")
    prompt = make_ids(2, 7, seed=2)
    mask = torch.ones_like(prompt)
    mask[0, :3] = 0
    settings: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    plain = model.generate(prompt, attention_mask=mask, use_cache=False, **settings)
    for cache in (DynamicCache(config=model.config), StaticCache(config=model.config, max_cache_len=16)):
        assert torch.equal(model.generate(prompt, attention_mask=mask, cache=cache, **settings), plain)
    beams = model.generate(prompt, attention_mask=mask, num_beams=3, use_cache=True, **settings)
    assert torch.equal(model.generate(prompt, attention_mask=mask, num_beams=3, use_cache=False, **settings), beams)


@pytest.mark.parametrize(
    ("model_type", "settings", "attention", "mlp"),
    [
        ("llama", {}, ("input_layernorm",), ("post_attention_layernorm",)),
        ("olmo2", {}, ("post_attention_layernorm",), ("post_feedforward_layernorm",)),
        (
            "gemma2",
            {},
            ("input_layernorm", "post_attention_layernorm"),
            ("pre_feedforward_layernorm", "post_feedforward_layernorm"),
        ),
        ("gpt_neox", {"use_parallel_residual": True}, ("input_layernorm",), ("post_attention_layernorm",)),
        ("gpt_neox", {"use_parallel_residual": False}, ("input_layernorm",), ("post_attention_layernorm",)),
        ("falcon", {}, (), ()),  # one norm for both
        ("falcon", {"parallel_attn": False}, ("input_layernorm",), ("post_attention_layernorm",)),
        ("falcon", {"new_decoder_architecture": True}, ("ln_attn",), ("ln_mlp",)),
        ("stablelm", {"use_parallel_residual": True}, (), ()),
        ("opt", {}, ("self_attn_layer_norm",), ("fc1", "final_layer_norm")),
        ("opt", {"do_layer_norm_before": False}, (), ("fc1",)),  # norms of the whole stream
    ],
)
def test_what_goes_with_a_half(
    model_type: str,
    settings: dict[str, Any],
    attention: tuple[str, ...],
    mlp: tuple[str, ...],
    make_model: Make,
    save_model: Save,
    make_ids: Ids,
    tmp_path: Path,
) -> None:
    model = make_model(model_type, **settings)
    source, ids = save_model(model), make_ids()
    layout = halves_layout(Checkpoint.open(source))
    assert layout.halves["attention"].passed == attention
    assert layout.halves["mlp"].passed == mlp
    prune_sub_block(Checkpoint.open(source), tmp_path / "pruned", drop=DROP)
    with torch.no_grad():
        logits = load(tmp_path / "pruned")(ids, use_cache=False).logits
    torch.testing.assert_close(logits, bypassed(model, DROP, ids), rtol=1e-5, atol=1e-5)


def test_whole_blocks_are_a_plain_checkpoint(make_model: Make, save_model: Save, tmp_path: Path) -> None:
    source = save_model(make_model("llama"))
    done = prune_sub_block(
        Checkpoint.open(source), tmp_path / "halves", drop=["2.mlp", "1.attention", "1.mlp", "2.attention"]
    )
    prune_depth(Checkpoint.open(source), tmp_path / "depth", drop=[1, 2])
    assert not done.needs_loader
    assert done.dropped == [1, 2]
    assert done.removed == ["1.attention", "1.mlp", "2.attention", "2.mlp"]
    files = sorted(path.name for path in (tmp_path / "depth").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "halves").iterdir())
    for name in files:
        assert (tmp_path / "halves" / name).read_bytes() == (tmp_path / "depth" / name).read_bytes()


def test_the_tensors_of_what_went_are_not_in_the_file(make_model: Make, save_model: Save, tmp_path: Path) -> None:
    source = save_model(make_model("llama"), max_shard_size="20KB")
    prune_sub_block(Checkpoint.open(source), tmp_path / "pruned", drop=DROP)
    checkpoint = Checkpoint.open(tmp_path / "pruned")
    assert len(checkpoint.files()) > 1
    by_block: dict[str, set[str]] = {}
    for name in checkpoint.names():
        if name.startswith("model.layers."):
            by_block.setdefault(name.split(".")[2], set()).add(name.split(".")[3])
    assert by_block == {
        "0": {"mlp", "post_attention_layernorm"},
        "1": {"self_attn", "input_layernorm", "mlp", "post_attention_layernorm"},
        "2": {"self_attn", "input_layernorm"},
    }
    original = Checkpoint.open(source)
    kept = checkpoint.read("model.layers.2.self_attn.q_proj.weight")
    assert torch.equal(kept, original.read("model.layers.3.self_attn.q_proj.weight"))
    index = json.loads((tmp_path / "pruned" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(checkpoint.names())


def test_per_layer_settings_follow_the_blocks(
    make_model: Make, save_model: Save, make_ids: Ids, tmp_path: Path
) -> None:
    """Sliding and full attention alternate; the kept blocks keep theirs, and so do the layers of the cache."""
    model = make_model("gemma3_text")
    prune_sub_block(
        Checkpoint.open(save_model(model)), tmp_path / "pruned", drop=["0.attention", "1.mlp", "1.attention"]
    )
    pruned: Any = load(tmp_path / "pruned")
    kinds = model.config.layer_types
    assert pruned.config.layer_types == [kinds[0], kinds[2], kinds[3]]


@pytest.mark.thorough
def test_the_loader_needs_nothing_of_this_project(make_model: Make, save_model: Save, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere" / "pruned"
    prune_sub_block(Checkpoint.open(save_model(make_model("llama"))), target, drop=DROP)
    script = (
        "import sys, torch\nsys.path.insert(0, '.')\n"
        "from modeling_secateur import load\n"
        "model = load('.', dtype=torch.bfloat16)\n"
        "assert model.dtype is torch.bfloat16 and not model.training\n"
        "assert not [name for name in sys.modules if name.split('.')[0] in ('app', 'workers')]\n"
        "print(type(model).__name__, model.generate(torch.tensor([[3, 4]]), max_new_tokens=3, pad_token_id=0).shape)\n"
    )
    command = [sys.executable, "-W", "ignore", "-P", "-c", script]
    run = subprocess.run(command, cwd=target, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("LlamaForCausalLM torch.Size([1, 5])")
    with pytest.raises(ValueError, match="secateur"):
        AutoModelForCausalLM.from_pretrained(target)


def test_an_attention_that_should_not_be_there_is_noticed(make_model: Make, save_model: Save, tmp_path: Path) -> None:
    target = tmp_path / "pruned"
    prune_sub_block(Checkpoint.open(save_model(make_model("llama"))), target, drop=["1.attention"])
    config = json.loads((target / "config.json").read_text())
    assert config["secateur"]["version"] == 2
    config["secateur"]["without"] = {}
    (target / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadCheckpoint, match="missing keys"):
        load(target)


def test_a_patched_checkpoint_keeps_its_form(make_model: Make, save_model: Save, tmp_path: Path) -> None:
    target = tmp_path / "pruned"
    prune_sub_block(Checkpoint.open(save_model(make_model("llama"))), target, drop=["1.attention"])
    patch_checkpoint(Checkpoint.open(target), tmp_path / "recovered", {"model.norm.weight": lambda weight: weight * 2})
    before, after = load(target).state_dict(), load(tmp_path / "recovered").state_dict()
    assert before.keys() == after.keys()
    assert (tmp_path / "recovered" / LOADER_FILE).is_file()


@pytest.mark.parametrize(
    ("drop", "sentence"),
    [
        ([], "No unit"),
        (["4.mlp"], 'no unit "4.mlp"'),
        (["1.mlp", "1.mlp"], "twice"),
        (["one.mlp"], 'no unit "one.mlp"'),
        ([f"{block}.{half}" for block in range(4) for half in ("attention", "mlp")], "No unit would be left"),
    ],
)
def test_units_that_cannot_be_removed(
    drop: list[str], sentence: str, make_model: Make, save_model: Save, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        prune_sub_block(Checkpoint.open(save_model(make_model("llama"))), tmp_path / "pruned", drop=drop)
    assert not (tmp_path / "pruned").exists()


def test_halves_that_are_not_found_are_refused(
    make_model: Make, save_model: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a block with weights beside its halves."""
    source = save_model(
        make_model("llama", intermediate_size=40)
    )  # halves that were found once are known by the config
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer

    build = LlamaDecoderLayer.__init__

    def with_a_third(self: Any, *args: Any, **kwargs: Any) -> None:
        build(self, *args, **kwargs)
        self.third = torch.nn.Linear(4, 4)

    monkeypatch.setattr(LlamaDecoderLayer, "__init__", with_a_third)
    with pytest.raises(UnsupportedModel, match=r"third\.weight belongs to neither"):
        prune_sub_block(Checkpoint.open(source), tmp_path / "pruned", drop=["1.attention"])
    assert not (tmp_path / "pruned").exists()


@pytest.mark.parametrize(("bits", "group_size"), [(8, None), (4, 16)])
def test_quantised_weights_lose_halves_too(
    bits: int, group_size: int | None, make_model: Make, save_model: Save, make_ids: Ids, tmp_path: Path
) -> None:
    """The same model as the one with all its integers, whose halves add nothing; its settings follow."""
    source, target = tmp_path / "quantised", tmp_path / "pruned"
    quantise_linear(Checkpoint.open(save_model(make_model("llama"))), source, bits=bits, group_size=group_size)
    config = json.loads((source / "config.json").read_text())
    settings = config["quantization_config"]
    settings["ignore"] += [f"model.layers.{block}.mlp.up_proj" for block in (3, 2, 1)]
    tensors = load_file(source / "model.safetensors")
    for block in (1, 2, 3):
        for name in [name for name in tensors if name.startswith(f"model.layers.{block}.mlp.up_proj.")]:
            del tensors[name]
        tensors[f"model.layers.{block}.mlp.up_proj.weight"] = torch.full((48, 32), 0.01 * block)
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    (source / "config.json").write_text(json.dumps(config))

    done = prune_sub_block(Checkpoint.open(source), target, drop=DROP)
    assert done.needs_loader
    written = json.loads((target / "config.json").read_text())["quantization_config"]
    assert written["ignore"] == ["lm_head", "model.layers.2.mlp.up_proj", "model.layers.1.mlp.up_proj"]
    assert done.bytes_after == Checkpoint.open(target).total_bytes < done.bytes_before
    pruned: Any = load(target)
    ids = make_ids(2, 11, seed=1)
    with torch.no_grad():
        logits = pruned(ids, use_cache=False).logits
    torch.testing.assert_close(logits, bypassed(load(source), DROP, ids), rtol=1e-5, atol=1e-5)
    whole = prune_sub_block(
        Checkpoint.open(save_model(make_model("llama"), name="plain")), tmp_path / "plain-pruned", drop=DROP
    )
    assert (done.parameters_before, done.parameters_after) == (whole.parameters_before, whole.parameters_after)


def test_quantised_tensors_that_name_no_module_are_refused(make_model: Make, save_model: Save, tmp_path: Path) -> None:
    source = save_model(make_model("llama"))
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))
    tensors = load_file(source / "model.safetensors")
    tensors["model.layers.2.feed_forward.qweight"] = torch.ones(2, 2, dtype=torch.int32)
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UnsupportedModel, match=r"feed_forward\.qweight\W+is not named by a module"):
        prune_sub_block(Checkpoint.open(source), tmp_path / "pruned", drop=["1.mlp"])
    assert not (tmp_path / "pruned").exists()
