"""A GGUF file of the types of another: unchanged tensors to the byte, changed ones in the type that they had."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize
from safetensors.torch import load_file, save_file

from secateur.contract.errors import UnsupportedModel
from tests.fixtures.gguf_models import WRITTEN, byte_tokenizer, tensors_of, tiny_model, write_model
from tests.workers.engine.quantise.test_gguf_export import byte_level
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.gguf_file import read_gguf_header
from workers.engine.checkpoints.gguf_import import import_gguf
from workers.engine.pruning.depth import prune_depth
from workers.engine.pruning.gguf_depth import kept_keys, prune_gguf_depth
from workers.engine.quantise.gguf_export import export_gguf
from workers.engine.quantise.gguf_like import export_like

SIZES = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4}
CHANGED = "model.layers.1.mlp.down_proj.weight"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Q4_K_M file, for all tests, which read it."""
    folder = tmp_path_factory.mktemp("source")
    tiny_model("llama", **SIZES).save_pretrained(folder / "model")
    byte_level(begins=False).save_pretrained(folder / "model")
    export_gguf(Checkpoint.open(folder / "model"), folder / "source" / "model.gguf", kind="Q4_K_M")
    return folder / "source" / "model.gguf"


def imported(source: Path, folder: Path, *, drop: list[int]) -> Checkpoint:
    """What a job makes of the file: a checkpoint, some blocks fewer."""
    import_gguf(source, folder / "imported")
    prune_depth(Checkpoint.open(folder / "imported"), folder / "pruned", drop=drop)
    return Checkpoint.open(folder / "pruned")


def changed(checkpoint: Checkpoint, name: str) -> Checkpoint:
    """As a recovery leaves it: one matrix is another."""
    file = checkpoint.path / "model.safetensors"
    tensors = load_file(file)
    noise = torch.randn(tensors[name].shape, generator=torch.Generator().manual_seed(1))
    tensors[name] += 0.3 * tensors[name].std() * noise
    save_file(tensors, file, metadata={"format": "pt"})
    return Checkpoint.open(checkpoint.path)


def all_changed(checkpoint: Checkpoint) -> Checkpoint:
    """As a training of all weights leaves it."""
    file, draw = checkpoint.path / "model.safetensors", torch.Generator().manual_seed(1)
    tensors = {name: value + 0.1 * torch.randn(value.shape, generator=draw) for name, value in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    return Checkpoint.open(checkpoint.path)


def read(file: Path) -> dict[str, Any]:
    return {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors}


def retyped(source: Path, target: Path, name: str, kind: str) -> Path:
    """The file with one of its tensors in a type that is read here and not written: any bytes are some weights."""
    reader: Any = gguf.GGUFReader(source)
    header = read_gguf_header(source)
    writer: Any = gguf.GGUFWriter(target, "llama")
    for key, field in reader.fields.items():
        if key in header.values and key != "general.architecture":
            part = field.types[-1] if len(field.types) > 1 else None
            writer.add_key_value(key, field.contents(), field.types[0], sub_type=part)
    wanted = gguf.GGMLQuantizationType[kind]
    elements, size = gguf.GGML_QUANT_SIZES[wanted]
    for tensor in reader.tensors:
        if tensor.name != name:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
            continue
        columns, rows = (int(length) for length in tensor.shape)
        blocks = np.random.default_rng(0).integers(0, 256, (rows, columns // elements, size), dtype=np.uint8)
        blocks[..., :2] = np.frombuffer(np.float16(0.001).tobytes(), dtype=np.uint8)  # the block's scale
        writer.add_tensor(tensor.name, blocks.reshape(rows, -1), raw_dtype=wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def test_types_stay_and_what_did_not_change_is_copied(source: Path, tmp_path: Path) -> None:
    checkpoint = changed(imported(source, tmp_path, drop=[1]), CHANGED)
    target = tmp_path / "out" / "recovered.gguf"
    written = export_like(checkpoint, target, source=source, kept=[0, 2, 3])
    notes = written.notes
    before, after = read(source), read(target)
    old = {0: 0, 1: 2, 2: 3}
    expected = {
        name: f"blk.{old[int(name.split('.')[1])]}.{name.split('.', 2)[2]}" if name.startswith("blk.") else name
        for name in after
    }
    assert set(expected.values()) == {name for name in before if not name.startswith("blk.1.")}
    for name, was in expected.items():
        assert after[name].tensor_type == before[was].tensor_type, name
        same = np.array_equal(after[name].data, before[was].data)
        assert same == (name != "blk.1.ffn_down.weight"), name
    assert {tensor.tensor_type.name for tensor in after.values()} >= {"Q4_K", "Q6_K", "F32"}
    assert len(notes) == 1
    assert f"{len(after) - 1} of {len(after)} tensors" in notes[0]
    now = after["blk.1.ffn_down.weight"]
    values = checkpoint.read(CHANGED)
    error = torch.from_numpy(np.array(dequantize(now.data, now.tensor_type))) - values
    relative = float(error.norm() / values.norm())
    assert 0 < relative < 0.075
    assert f"error of {100 * relative:.2g} %" in notes[0]
    assert written.relative_error == pytest.approx(relative)


def test_keys_and_tokenizer_are_the_files_own(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "recovered.gguf"
    written = export_like(imported(source, tmp_path, drop=[0]), target, source=source, kept=[1, 2, 3])
    assert written.relative_error == 0  # nobody changed anything
    before, after = gguf.GGUFReader(source).fields, gguf.GGUFReader(target).fields
    same = {name for name in before if name.startswith("tokenizer.") or name == "general.file_type"}
    for name in same:
        assert after[name].contents() == before[name].contents(), name
    assert after["llama.block_count"].contents() == 3
    import_gguf(target, tmp_path / "back")
    again = load_file(tmp_path / "back" / "model.safetensors")
    first = load_file(tmp_path / "pruned" / "model.safetensors")
    assert set(again) == set(first)
    assert all(torch.equal(again[name], first[name]) for name in first)


@pytest.mark.parametrize(
    ("kind", "found"), [("IQ4_NL", "Q4_K"), ("IQ4_XS", "Q4_K"), ("IQ3_S", "Q3_K"), ("IQ2_S", "Q2_K")]
)
def test_a_type_that_is_read_alone_stays_or_is_replaced_with_a_note(
    kind: str, found: str, source: Path, tmp_path: Path
) -> None:
    special = retyped(source, tmp_path / "special.gguf", "blk.1.ffn_down.weight", kind)
    checkpoint = imported(special, tmp_path, drop=[3])
    export_like(checkpoint, tmp_path / "same" / "recovered.gguf", source=special, kept=[0, 1, 2])
    assert read(tmp_path / "same" / "recovered.gguf")["blk.1.ffn_down.weight"].tensor_type.name == kind
    notes = export_like(
        changed(checkpoint, CHANGED), tmp_path / "out" / "recovered.gguf", source=special, kept=[0, 1, 2]
    ).notes
    assert read(tmp_path / "out" / "recovered.gguf")["blk.1.ffn_down.weight"].tensor_type.name == found
    assert f"blk.1.ffn_down.weight became {found}, since their type {kind} is read here and not written" in notes[1]


def narrowed(folder: Path, neurons: int) -> Checkpoint:
    """As width pruning leaves the checkpoint: some neurons fewer in each block."""
    tensors = load_file(folder / "model.safetensors")
    for name in [name for name in tensors if ".mlp." in name]:
        cut = tensors[name][:, :neurons] if "down_proj" in name else tensors[name][:neurons]
        tensors[name] = cut.contiguous()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": neurons}))
    return Checkpoint.open(folder)


def test_rows_that_no_longer_fill_blocks_get_what_llama_cpp_takes(source: Path, tmp_path: Path) -> None:
    import_gguf(source, tmp_path / "imported")
    target = tmp_path / "out" / "recovered.gguf"
    notes = export_like(narrowed(tmp_path / "imported", 480), target, source=source, kept=range(4)).notes
    before, after = read(source), read(target)
    instead = {"Q4_K": "Q5_0", "Q6_K": "Q8_0"}
    downs = [name for name in after if "ffn_down" in name]
    assert {before[name].tensor_type.name for name in downs} == set(instead)
    for name, tensor in after.items():
        was = before[name].tensor_type.name
        assert tensor.tensor_type.name == (instead[was] if name in downs else was), name
    assert {note.partition(" became ")[2] for note in notes[1:]} == {
        f"{new}, since their type {was} does not fill rows of 480." for was, new in instead.items()
    }
    import_gguf(target, tmp_path / "back")


def test_a_head_that_the_file_lacked_gets_its_main_type(source: Path, tmp_path: Path) -> None:
    """A recovery that trained the head apart from a tied embedding."""
    tiny_model("llama", **SIZES, tie_word_embeddings=True).save_pretrained(tmp_path / "tied")
    byte_level(begins=False).save_pretrained(tmp_path / "tied")
    export_gguf(Checkpoint.open(tmp_path / "tied"), tmp_path / "tied-source" / "model.gguf", kind="Q4_K_S")
    tied = tmp_path / "tied-source" / "model.gguf"
    import_gguf(tied, tmp_path / "imported")
    tensors = load_file(tmp_path / "imported" / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] * 2
    save_file(tensors, tmp_path / "imported" / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((tmp_path / "imported" / "config.json").read_text())
    (tmp_path / "imported" / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    target = tmp_path / "out" / "recovered.gguf"
    export_like(Checkpoint.open(tmp_path / "imported"), target, source=tied, kept=range(4))
    assert "output.weight" not in read(tied)
    assert read(target)["output.weight"].tensor_type.name == "Q4_K"


def settings(model_type: str) -> dict[str, Any]:
    """Models of so many blocks that one or two can go where a family has a period."""
    given = {"gemma2": {"num_hidden_layers": 4}, "gemma3_text": {"num_hidden_layers": 8}}.get(model_type, {})
    return {**given, "tie_word_embeddings": WRITTEN[model_type].tied is True}


def drop_of(model_type: str) -> list[int]:
    return {"gemma2": [0, 1], "gemma3_text": [1, 2, 3, 4, 5, 6]}.get(model_type, [1])


VARIATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    **{model_type: (model_type, {}) for model_type in WRITTEN},
    "gpt2 tied": ("gpt2", {"tie_word_embeddings": True}),
    "starcoder2 tied": ("starcoder2", {"tie_word_embeddings": True}),
    "granite with biases": ("granite", {"attention_bias": True, "mlp_bias": True}),
    "nemotron with biases": ("nemotron", {"attention_bias": True, "mlp_bias": True}),
    "stablelm with norms of its heads": ("stablelm", {"qk_layernorm": True, "use_parallel_residual": True}),
}


def as_file(name: str, path: Path) -> tuple[Path, list[int]]:
    """A variation as a file, and blocks that can go."""
    model_type, more = VARIATIONS[name]
    model = tiny_model(model_type, **{**settings(model_type), **more})
    tokenizer = byte_tokenizer(model.config.vocab_size, pre="qwen2" if model_type == "qwen2" else "gpt-2")
    return write_model(path, model, tokenizer=tokenizer), drop_of(model_type)


@pytest.mark.parametrize("name", VARIATIONS)
def test_a_recovered_model_of_every_family_that_is_read(name: str, tmp_path: Path) -> None:
    """Unchanged, it is the pruned file; with every weight changed, it reads as the checkpoint that it was made of."""
    source, drop = as_file(name, tmp_path / "model.gguf")
    checkpoint = imported(source, tmp_path, drop=drop)
    kept = prune_gguf_depth(source, tmp_path / "pruned.gguf", drop=drop).kept
    keys = kept_keys(source, kept)
    written = export_like(checkpoint, tmp_path / "same" / "m.gguf", source=source, kept=kept, keys=keys)
    assert written.relative_error == 0
    before, after = read(tmp_path / "pruned.gguf"), read(tmp_path / "same" / "m.gguf")
    assert set(after) == set(before)
    for tensor, was in before.items():
        assert np.array_equal(after[tensor].data, was.data), tensor
    old, new = (gguf.GGUFReader(tmp_path / path).fields for path in ("pruned.gguf", "same/m.gguf"))
    for key in set(old) | set(new):
        if not key.startswith("GGUF."):
            assert new[key].contents() == old[key].contents(), key

    again = all_changed(checkpoint)
    tensors = load_file(again.path / "model.safetensors")
    export_like(again, tmp_path / "out" / "m.gguf", source=source, kept=kept, keys=keys)
    import_gguf(tmp_path / "out" / "m.gguf", tmp_path / "back")
    back = load_file(tmp_path / "back" / "model.safetensors")
    assert set(back) == set(tensors)
    for key, value in tensors.items():
        assert torch.allclose(back[key], value, rtol=0, atol=1e-6), key  # 1 may have been added and taken off


def test_a_head_that_the_file_has_twice_is_written_twice(tmp_path: Path) -> None:
    """llama.cpp does not find StableLM's head in the embedding, so a file of a tied one stores it again."""
    model = tiny_model("stablelm", tie_word_embeddings=True)
    tensors = tensors_of(model)
    tensors["output.weight"] = tensors["token_embd.weight"]
    source = write_model(tmp_path / "model.gguf", model, tensors=tensors)
    checkpoint = changed(imported(source, tmp_path, drop=[1]), "model.embed_tokens.weight")
    target = tmp_path / "out" / "m.gguf"
    export_like(checkpoint, target, source=source, kept=[0, 2], keys=kept_keys(source, [0, 2]))
    found = read(target)
    assert np.array_equal(found["output.weight"].data, found["token_embd.weight"].data)
    assert not np.array_equal(found["output.weight"].data, tensors["output.weight"])


def test_divisors_of_the_rotary_frequencies_are_the_files_own(tmp_path: Path) -> None:
    """LongRoPE's: they are no weights of the model."""
    model = tiny_model("phi3", num_attention_heads=2, num_key_value_heads=2)
    factors = {
        f"rope_factors_{which}.weight": np.linspace(1, end, 4, dtype=np.float32)
        for which, end in (("long", 4), ("short", 2))
    }
    keys = {"rope.scaling.type": "longrope", "rope.scaling.original_context_length": 32}
    source = write_model(tmp_path / "model.gguf", model, keys=keys, tensors={**tensors_of(model), **factors})
    checkpoint = changed(imported(source, tmp_path, drop=[0]), CHANGED)
    target = tmp_path / "out" / "m.gguf"
    export_like(checkpoint, target, source=source, kept=[1, 2], keys=kept_keys(source, [1, 2]))
    found = read(target)
    for name, values in factors.items():
        assert np.array_equal(found[name].data, values), name
    import_gguf(target, tmp_path / "back")
    config = json.loads((tmp_path / "back" / "config.json").read_text())
    assert config["rope_parameters"] == checkpoint.config["rope_parameters"]


def test_a_file_of_another_alignment(tmp_path: Path) -> None:
    model = tiny_model("granite")
    tokenizer = {**byte_tokenizer(model.config.vocab_size), "general.alignment": 256}
    source = write_model(tmp_path / "model.gguf", model, tokenizer=tokenizer)
    assert read_gguf_header(source).alignment == 256
    checkpoint = imported(source, tmp_path, drop=[1])
    target = tmp_path / "out" / "m.gguf"
    export_like(checkpoint, target, source=source, kept=[0, 2], keys=kept_keys(source, [0, 2]))
    prune_gguf_depth(source, tmp_path / "pruned.gguf", drop=[1])
    before, after = read(tmp_path / "pruned.gguf"), read(target)
    assert all(np.array_equal(after[name].data, was.data) for name, was in before.items())


def test_biases_that_the_file_lacks_are_written_once_they_are_something(tmp_path: Path) -> None:
    """One switch of a config stands for the biases of four projections, of which a file may have some."""
    model = tiny_model("granite", attention_bias=True)
    tensors = {name: value for name, value in tensors_of(model).items() if not name.endswith("attn_output.bias")}
    source = write_model(tmp_path / "model.gguf", model, tensors=tensors)
    checkpoint = imported(source, tmp_path, drop=[0])
    keys = kept_keys(source, [1, 2])
    export_like(checkpoint, tmp_path / "same" / "m.gguf", source=source, kept=[1, 2], keys=keys)
    assert not any(name.endswith("attn_output.bias") for name in read(tmp_path / "same" / "m.gguf"))
    file = checkpoint.path / "model.safetensors"
    weights = load_file(file)
    weights["model.layers.1.self_attn.o_proj.bias"] += 1
    save_file(weights, file, metadata={"format": "pt"})
    again = Checkpoint.open(checkpoint.path)
    export_like(again, tmp_path / "out" / "m.gguf", source=source, kept=[1, 2], keys=keys)
    assert [name for name in read(tmp_path / "out" / "m.gguf") if name.endswith("attn_output.bias")] == [
        "blk.1.attn_output.bias"
    ]


def test_what_the_checkpoint_does_not_make_is_refused(source: Path, tmp_path: Path) -> None:
    checkpoint = imported(source, tmp_path, drop=[0])
    tensors = load_file(checkpoint.path / "model.safetensors")
    del tensors[CHANGED]
    save_file(tensors, checkpoint.path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UnsupportedModel, match=r"Nothing of the checkpoint makes the tensor blk\.1\.ffn_down\.weight"):
        export_like(
            Checkpoint.open(checkpoint.path),
            tmp_path / "out" / "m.gguf",
            source=source,
            kept=[1, 2, 3],
            keys=kept_keys(source, [1, 2, 3]),
        )
