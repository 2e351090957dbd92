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

from tests.fixtures.gguf_models import tiny_model
from tests.workers.engine.quantise.test_gguf_export import byte_level
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.gguf_file import read_gguf_header
from workers.engine.checkpoints.gguf_import import import_gguf
from workers.engine.pruning.depth import prune_depth
from workers.engine.quantise.gguf_export import export_gguf
from workers.engine.quantise.gguf_like import export_like

SIZES = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4}
CHANGED = "model.layers.1.mlp.down_proj.weight"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A Q4_K_M file."""
    tiny_model("llama", **SIZES).save_pretrained(tmp_path / "model")
    byte_level(begins=False).save_pretrained(tmp_path / "model")
    export_gguf(Checkpoint.open(tmp_path / "model"), tmp_path / "source" / "model.gguf", kind="Q4_K_M")
    return tmp_path / "source" / "model.gguf"


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
