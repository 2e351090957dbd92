"""Depth pruning by header rewrite: the pruned checkpoint is the original with those blocks bypassed, exactly."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from secateur.contract.errors import BadCheckpoint, InvalidInput, StageFailed, UnsupportedModel
from secateur.contract.models.families import FAMILIES
from workers.engine.architectures.registry import architecture_of
from workers.engine.checkpoints.checkpoint import INDEX_FILE, Checkpoint
from workers.engine.pruning.depth import prune_depth

Make = Callable[..., PreTrainedModel]
Save = Callable[..., Path]


@contextmanager
def bypassed(model: PreTrainedModel, blocks: Sequence[int]) -> Iterator[None]:
    """The oracle: the blocks' outputs are replaced by their inputs."""

    def give_back(module: object, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        hidden = args[0] if args else kwargs["hidden_states"]
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    stack = model.get_submodule(architecture_of(model.config).blocks_prefix)
    handles = [stack.get_submodule(str(block)).register_forward_hook(give_back, with_kwargs=True) for block in blocks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def reload(path: Path) -> Any:
    """The model as a user would load it, whatever its class."""
    loaded: Any = AutoModelForCausalLM.from_pretrained(path, output_loading_info=True, dtype="auto")
    model, info = loaded
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    return model.eval()


def logits(model: Any, ids: Tensor) -> Tensor:
    with torch.no_grad():
        result = model(ids, use_cache=False).logits
    assert isinstance(result, Tensor)
    return result


@pytest.mark.parametrize("drop", [[1], [0, 3]], ids=str)
def test_every_family_equals_its_bypassed_original(
    family: str, drop: list[int], make_model: Make, make_ids: Callable[..., Tensor], save_model: Save, tmp_path: Path
) -> None:
    model, ids = make_model(family), make_ids(2, 12)
    source = save_model(model)
    result = prune_depth(Checkpoint.open(source), tmp_path / "pruned", drop=drop)
    assert result.kept == [number for number in range(4) if number not in drop]
    assert result.dropped == drop

    pruned = reload(tmp_path / "pruned")
    with bypassed(model, drop):
        expected = logits(model, ids)
    assert torch.equal(logits(pruned, ids), expected)
    assert not torch.equal(logits(model, ids), expected)
    assert pruned.num_parameters() == result.parameters_after
    assert model.num_parameters() == result.parameters_before

    for name in architecture_of(json.loads((source / "config.json").read_text())).per_layer_lists:
        entries = getattr(model.config, name)
        assert list(getattr(pruned.config, name)) == [entries[number] for number in result.kept]


def test_generation_with_and_without_cache(
    family: str, make_model: Make, make_ids: Callable[..., Tensor], save_model: Save, tmp_path: Path
) -> None:
    source = save_model(make_model(family))
    prune_depth(Checkpoint.open(source), tmp_path / "pruned", drop=[1, 2])
    pruned = reload(tmp_path / "pruned")
    ids = make_ids(1, 7)
    settings: dict[str, Any] = {"max_new_tokens": 10, "min_new_tokens": 10, "do_sample": False, "pad_token_id": 0}
    settings["attention_mask"] = torch.ones_like(ids)
    cached = pruned.generate(ids, use_cache=True, **settings)
    plain = pruned.generate(ids, use_cache=False, **settings)
    assert cached.shape == (1, 17)
    assert torch.equal(cached, plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shards", [None, "20KB"])
@pytest.mark.parametrize("tied", [True, False])
def test_layouts_and_dtypes(
    dtype: torch.dtype,
    shards: str | None,
    tied: bool,
    make_model: Make,
    make_ids: Callable[..., Tensor],
    save_model: Save,
    tmp_path: Path,
) -> None:
    made: Any = make_model("llama", num_hidden_layers=6, tie_word_embeddings=tied)
    source = save_model(made.to(dtype), **({"max_shard_size": shards} if shards else {}))
    model = reload(source)  # `to` has rounded the rotary frequencies too, which no checkpoint holds
    result = prune_depth(Checkpoint.open(source), tmp_path / "pruned", drop=[4, 0, 3])
    pruned = reload(tmp_path / "pruned")
    assert pruned.dtype == dtype
    assert (pruned.lm_head.weight is pruned.model.embed_tokens.weight) == tied
    with bypassed(model, [0, 3, 4]):
        assert torch.equal(logits(pruned, make_ids()), logits(model, make_ids()))

    before, after = Checkpoint.open(source), Checkpoint.open(tmp_path / "pruned")
    assert result.bytes_before == before.total_bytes
    assert result.bytes_after == after.total_bytes == pruned.num_parameters() * dtype.itemsize
    if shards:
        assert 1 < len(after.files()) < len(before.files())
        index = json.loads((tmp_path / "pruned" / INDEX_FILE).read_text())
        assert index["metadata"]["total_size"] == after.total_bytes
        assert set(index["weight_map"].values()) == {file.name for file in after.files()}
        assert all(file.name.endswith(f"-of-{len(after.files()):05d}.safetensors") for file in after.files())
    else:
        assert [file.name for file in after.files()] == ["model.safetensors"]


def test_base_model_names_without_their_prefix(
    make_model: Make, make_ids: Callable[..., Tensor], save_model: Save, tmp_path: Path
) -> None:
    """GPT-2 on the hub stores `h.0.…` where the module is `transformer.h.0.…`."""
    model = make_model("gpt2")
    source = save_model(model)
    tensors = load_file(source / "model.safetensors")
    bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    save_file(bare, source / "model.safetensors", metadata={"format": "pt"})
    prune_depth(Checkpoint.open(source), tmp_path / "pruned", drop=[1])
    with bypassed(model, [1]):
        assert torch.equal(logits(reload(tmp_path / "pruned"), make_ids()), logits(model, make_ids()))


def test_side_files_go_with_the_weights(make_model: Make, save_model: Save, tmp_path: Path) -> None:
    source = save_model(make_model("llama"))
    taken = {
        "tokenizer.json": "{}",
        "tokenizer_config.json": "{}",
        "tokenizer.model": "x",
        "merges.txt": "x",
        "LICENSE": "x",
        "chat_template.jinja": "x",
        "generation_config.json": "{}",
    }
    left = {"pytorch_model.bin": "x", "modeling_llama.py": "x", "README.md": "x", "adapter_config.json": "{}"}
    left |= {"params.json": '{"n_layers": 4}', "kv_cache_scales.json": '{"kv_cache": {}}'}  # of the blocks as they were
    for name, text in {**taken, **left}.items():
        (source / name).write_text(text)
    (source / "additional_chat_templates").mkdir()
    (source / "additional_chat_templates" / "tool.jinja").write_text("x")
    prune_depth(Checkpoint.open(source), tmp_path / "pruned", drop=[1])
    written = {str(path.relative_to(tmp_path / "pruned")) for path in (tmp_path / "pruned").rglob("*.*")}
    written |= {path.name for path in (tmp_path / "pruned").glob("LICENSE")}
    assert written == {
        *taken,
        "config.json",
        "model.safetensors",
        str(Path("additional_chat_templates") / "tool.jinja"),
    }
    assert (tmp_path / "pruned").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    ("drop", "sentence"),
    [
        ([], "No block is named"),
        ([4], "no block 4"),
        ([-1], "no block -1"),
        ([1, 1], "named twice"),
        ([0, 1, 2, 3], "No block would be left"),
    ],
)
def test_blocks_that_cannot_be_dropped(
    drop: list[int], sentence: str, make_model: Make, save_model: Save, tmp_path: Path
) -> None:
    source = save_model(make_model("llama"))
    with pytest.raises(InvalidInput, match=sentence) as caught:
        prune_depth(Checkpoint.open(source), tmp_path / "pruned", drop=drop)
    assert caught.value.errors[0].pointer == "drop"
    assert caught.value.errors[0].value == drop
    assert not (tmp_path / "pruned").exists()


def leftovers(tmp_path: Path, *known: str) -> list[str]:
    return [path.name for path in tmp_path.iterdir() if path.name not in known]


def test_a_broken_source_leaves_nothing(make_model: Make, save_model: Save, tmp_path: Path) -> None:
    source = save_model(make_model("llama"))
    weights = source / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(BadCheckpoint):
        prune_depth(Checkpoint.open(source), tmp_path / "pruned", drop=[1])
    assert leftovers(tmp_path, "checkpoint") == []


def test_a_refused_config_leaves_nothing(make_model: Make, save_model: Save, tmp_path: Path) -> None:
    source = save_model(make_model("gpt2", scale_attn_by_inverse_layer_idx=True))
    with pytest.raises(UnsupportedModel, match="block's number"):
        prune_depth(Checkpoint.open(source), tmp_path / "pruned", drop=[1])
    assert leftovers(tmp_path, "checkpoint") == []


def test_a_size_that_is_none_leaves_nothing(make_model: Make, save_model: Save, tmp_path: Path) -> None:
    path = save_model(make_model("llama"))
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "intermediate_size": -1}))
    with pytest.raises(BadCheckpoint, match="intermediate_size"):
        prune_depth(Checkpoint.open(path), tmp_path / "out", drop=[1])
    assert not (tmp_path / "out").exists()


def test_an_existing_target_is_kept(make_model: Make, save_model: Save, tmp_path: Path) -> None:
    source = save_model(make_model("llama"))
    (tmp_path / "pruned").mkdir()
    (tmp_path / "pruned" / "mine").write_text("x")
    with pytest.raises(StageFailed, match="exists already"):
        prune_depth(Checkpoint.open(source), tmp_path / "pruned", drop=[1])
    assert [path.name for path in (tmp_path / "pruned").iterdir()] == ["mine"]


@pytest.mark.thorough
def test_a_full_disk_leaves_nothing(make_model: Make, save_model: Save, tmp_path: Path) -> None:
    """A limit on the size of files, in a process of its own, stops the copy half way."""
    source = save_model(make_model("llama"))
    script = """
import resource, signal, sys
from pathlib import Path
from secateur.contract.errors import StageFailed
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.pruning.depth import prune_depth
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
try:
    prune_depth(Checkpoint.open(Path(sys.argv[1])), Path(sys.argv[2]), drop=[1])
except StageFailed as error:
    print(error.detail)
"""
    arguments = [sys.executable, "-c", script, str(source), str(tmp_path / "pruned")]
    output = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout
    assert output == "The checkpoint could not be written: File too large.\n"
    assert leftovers(tmp_path, "checkpoint") == []


def test_progress_counts_every_byte(make_model: Make, save_model: Save, tmp_path: Path) -> None:
    source = save_model(make_model("llama"), max_shard_size="20KB")
    seen: list[tuple[int, int, str]] = []
    result = prune_depth(
        Checkpoint.open(source),
        tmp_path / "pruned",
        drop=[1],
        progress=lambda done, total, unit: seen.append((done, total, unit)),
    )
    assert seen[-1] == (result.bytes_after, result.bytes_after, "bytes")
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)


def test_multi_token_prediction_layers_are_dropped(make_model: Make, save_model: Save, tmp_path: Path) -> None:
    source = save_model(make_model("llama"))
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3, "num_nextn_predict_layers": 1}))
    tensors = load_file(source / "model.safetensors")
    tensors["model.mtp_layers.0.weight"] = torch.ones(3)
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    result = prune_depth(Checkpoint.open(source), tmp_path / "pruned", drop=[1])
    assert result.kept == [0, 2]
    pruned = Checkpoint.open(tmp_path / "pruned")
    assert pruned.config["num_nextn_predict_layers"] == 0
    assert not [name for name in pruned.names() if ".2." in name or ".3." in name or "mtp" in name]


QUANTIZED: dict[str, tuple[dict[str, Any], dict[str, Tensor]]] = {
    "gptq": (
        {"quant_method": "gptq", "bits": 4, "group_size": 8, "modules_in_block_to_quantize": [["mlp.up_proj"]]},
        {"qweight": torch.ones(4, 48, dtype=torch.int32), "qzeros": torch.ones(4, 6, dtype=torch.int32),
         "scales": torch.ones(4, 48, dtype=torch.float16), "g_idx": torch.zeros(32, dtype=torch.int32)},
    ),
    "awq": (
        {"quant_method": "awq", "modules_to_not_convert": ["lm_head", "model.layers.1.mlp", "model.layers.2.mlp"]},
        {"qweight": torch.ones(32, 6, dtype=torch.int32), "scales": torch.ones(4, 48, dtype=torch.float16)},
    ),
    "bitsandbytes": (
        {"quant_method": "bitsandbytes", "load_in_4bit": True, "llm_int8_skip_modules": ["model.layers.2.mlp.up_proj"]},
        {"weight": torch.ones(768, 1, dtype=torch.uint8), "weight.absmax": torch.ones(24),
         "weight.quant_state.bitsandbytes__nf4": torch.ones(80, dtype=torch.uint8)},
    ),
    "compressed-tensors": (
        {"quant_method": "compressed-tensors",
         "ignore": ["lm_head", "re:.*layers\\.2\\..*", "model.layers.1.mlp.up_proj"],
         "config_groups": {"group_0": {"targets": ["Linear"]}}},
        {"weight_packed": torch.ones(48, 4, dtype=torch.int32), "weight_scale": torch.ones(48, 1, dtype=torch.bfloat16),
         "weight_shape": torch.tensor([48, 32])},
    ),
}  # fmt: skip


@pytest.mark.parametrize("method", QUANTIZED)
def test_quantised_checkpoints_lose_whole_blocks(
    method: str, make_model: Make, save_model: Save, tmp_path: Path
) -> None:
    """The quantiser's package is not needed: names under the block's prefix go, bytes are copied as they are."""
    settings, parts = QUANTIZED[method]
    source = save_model(make_model("llama"))
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "quantization_config": settings}))
    (source / "quantize_config.json").write_text(json.dumps({"dynamic": {"-:model\\.layers\\.3\\..*": {}}}))
    tensors = load_file(source / "model.safetensors")
    for block in range(4):
        del tensors[f"model.layers.{block}.mlp.up_proj.weight"]
        for part, tensor in parts.items():
            tensors[f"model.layers.{block}.mlp.up_proj.{part}"] = tensor + block
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})

    prune_depth(Checkpoint.open(source), tmp_path / "pruned", drop=[1])
    pruned = load_file(tmp_path / "pruned" / "model.safetensors")
    for new, old in enumerate([0, 2, 3]):
        for part in parts:
            stem = f"mlp.up_proj.{part}"
            assert torch.equal(pruned[f"model.layers.{new}.{stem}"], tensors[f"model.layers.{old}.{stem}"])
    assert not any(name.startswith("model.layers.3.") for name in pruned)
    written = json.loads((tmp_path / "pruned" / "config.json").read_text())["quantization_config"]
    expected = {
        "gptq": settings,
        "awq": {**settings, "modules_to_not_convert": ["lm_head", "model.layers.1.mlp"]},
        "bitsandbytes": {**settings, "llm_int8_skip_modules": ["model.layers.1.mlp.up_proj"]},
        "compressed-tensors": {**settings, "ignore": ["lm_head", "re:.*layers\\.1\\..*"]},
    }
    assert written == expected[method]
    beside = json.loads((tmp_path / "pruned" / "quantize_config.json").read_text())
    assert beside == {"dynamic": {"-:model\\.layers\\.2\\..*": {}}}


DENSE = [row.architecture.model_types[0] for row in FAMILIES if "moe" not in row.architecture.quirks]


@pytest.mark.thorough
def test_no_model_class_is_imported_where_none_is_built(make_model: Make, save_model: Save, tmp_path: Path) -> None:
    """They take more memory than all else; no dense family's prune may cost it, nor what some config classes import."""
    for model_type in DENSE:
        save_model(make_model(model_type), name=model_type)
    script = (
        "import sys\nfrom pathlib import Path\nfrom workers.engine.checkpoints.checkpoint import Checkpoint\n"
        "from workers.engine.pruning.depth import prune_depth\n"
        "for name in sys.argv[2:]:\n"
        "    source = Checkpoint.open(Path(sys.argv[1], name))\n"
        "    prune_depth(source, Path(sys.argv[1], f'{name}-pruned'), drop=[1])\n"
        "heavy = {'transformers.modeling_utils', 'transformers.activations', 'torch.distributed.tensor'}\n"
        "classes = {f'transformers.models.{name}.modeling_{name}' for name in [*sys.argv[2:], 'gemma3']}\n"
        "print(sorted((heavy | classes) & set(sys.modules)))"
    )
    output = subprocess.check_output([sys.executable, "-c", script, str(tmp_path), *DENSE], text=True)
    assert output.strip() == "[]"


def test_a_family_whose_names_on_disk_are_not_those_of_its_modules(
    save_model: Callable[..., Path], make_ids: Callable[..., Tensor], tmp_path: Path
) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = AutoConfig.for_model("exaone", num_hidden_layers=5, vocab_size=96, **sizes)
    model: Any = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]  # no annotations
    source = save_model(model.eval())
    assert any(name.startswith("transformer.h.4.") for name in Checkpoint.open(source).names())
    done = prune_depth(Checkpoint.open(source), tmp_path / "pruned", drop=[1, 3])
    assert done.kept == [0, 2, 4]
    assert done.parameters_after < done.parameters_before
    pruned: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "pruned")
    with torch.no_grad(), bypassed(model, [1, 3]):
        assert torch.equal(pruned(make_ids(), use_cache=False).logits, model(make_ids(), use_cache=False).logits)
