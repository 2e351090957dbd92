"""Opening checkpoints: what is sound reads back to the bit, what is unsafe or broken gets one clear sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from secateur.contract.errors import BadCheckpoint, UnsupportedModel
from workers.engine.checkpoints.checkpoint import INDEX_FILE, Checkpoint
from workers.engine.checkpoints.safetensors_file import TensorEntry, encode_header


@pytest.mark.parametrize("layout", ["single", "sharded"])
def test_every_tensor_reads_back(layout: str, tiny_llama: LlamaForCausalLM, request: pytest.FixtureRequest) -> None:
    checkpoint = Checkpoint.open(request.getfixturevalue(layout))
    state = tiny_llama.state_dict()
    assert set(checkpoint.names()) == set(state) - {"lm_head.weight"}  # tied: once on disk
    for name in checkpoint.names():
        tensor = checkpoint.read(name)
        assert torch.equal(tensor, state[name])
        assert checkpoint.shape(name) == tuple(tensor.shape)
        assert checkpoint.dtype(name) == "F32"
        assert checkpoint.nbytes(name) == tensor.nbytes
    assert checkpoint.bytes_read == checkpoint.total_bytes
    assert checkpoint.config["num_hidden_layers"] == 4
    assert all(file.is_file() for file in checkpoint.files())
    assert (len(checkpoint.files()) > 1) == (layout == "sharded")


def test_every_dtype_reads_back(tmp_path: Path) -> None:
    dtypes = [
        torch.bool,
        torch.uint8,
        torch.int8,
        torch.int16,
        torch.uint16,
        torch.float16,
        torch.bfloat16,
        torch.int32,
        torch.uint32,
        torch.float32,
        torch.int64,
        torch.uint64,
        torch.float64,
        torch.float8_e4m3fn,
        torch.float8_e5m2,
        torch.complex64,
    ]
    tensors = {str(dtype): torch.tensor([[0, 1, 2]]).to(dtype) for dtype in dtypes}
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    checkpoint = Checkpoint.open(tmp_path)
    for name, tensor in tensors.items():
        read = checkpoint.read(name)
        assert read.dtype == tensor.dtype
        assert torch.equal(read.view(torch.uint8), tensor.view(torch.uint8))


def test_packed_floats_are_listed_but_not_computed_with(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    header = encode_header([TensorEntry("a", "F4", (3, 4), 0, 6)], {})
    (tmp_path / "model.safetensors").write_bytes(header + bytes(6))
    checkpoint = Checkpoint.open(tmp_path)
    assert checkpoint.nbytes("a") == 6
    with pytest.raises(UnsupportedModel, match="dtype F4"):
        checkpoint.read("a")


def rewrite_config(path: Path, **changes: object) -> None:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, **changes}))


def rewrite_index(path: Path, name: str, file: str) -> None:
    index = json.loads((path / INDEX_FILE).read_text())
    index["weight_map"][name] = file
    (path / INDEX_FILE).write_text(json.dumps(index))


def truncate(path: Path) -> None:
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def pickle_only(path: Path) -> None:
    (path / "model.safetensors").rename(path / "pytorch_model.bin")


def without_block(path: Path, block: int) -> None:
    tensors = load_file(path / "model.safetensors")
    save_file({k: v for k, v in tensors.items() if f"layers.{block}." not in k}, path / "model.safetensors")


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (truncate, "truncated or its header lies"),
        (pickle_only, "weights must be safetensors or GGUF"),
        (lambda path: (path / "model.safetensors").unlink(), "neither model.safetensors nor"),
        (lambda path: (path / "config.json").unlink(), "config.json is missing"),
        (lambda path: (path / "config.json").write_text("{"), "config.json is not valid JSON"),
        (lambda path: (path / "config.json").write_text("[]"), "config.json is not a JSON object"),
        (lambda path: rewrite_config(path, num_hidden_layers=5), "announces 5 blocks, and the tensors"),
        (lambda path: rewrite_config(path, num_hidden_layers=3), "announces 3 blocks, and the tensors"),
        (lambda path: without_block(path, 2), "announces 4 blocks, and 'model.layers.2.' has no tensors"),
        (lambda path: without_block(path, 3), "announces 4 blocks, and the tensors under 'model.layers.' make up 3"),
    ],
)
def test_refuses_a_damaged_single_file(single: Path, damage: Callable[[Path], None], sentence: str) -> None:
    damage(single)
    with pytest.raises(BadCheckpoint) as caught:
        Checkpoint.open(single)
    assert sentence in caught.value.detail


FIRST = "model.layers.0.mlp.up_proj.weight"


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda path: next(path.glob("model-00003-*")).unlink(), "lists the shard 'model-00003-of"),
        (lambda path: rewrite_index(path, FIRST, "../single/model.safetensors"), "not the name of a safetensors file"),
        (lambda path: rewrite_index(path, FIRST, "/etc/passwd"), "not the name of a safetensors file"),
        (lambda path: rewrite_index(path, FIRST, "pytorch_model.bin"), "not the name of a safetensors file"),
        (
            lambda path: rewrite_index(path, "model.extra", "model-00001-of-00008.safetensors"),
            "'model.extra' is not in",
        ),
        (lambda path: (path / INDEX_FILE).write_text('{"weight_map": {}}'), "no weight_map"),
    ],
)
def test_refuses_a_damaged_index(sharded: Path, damage: Callable[[Path], None], sentence: str) -> None:
    assert len(Checkpoint.open(sharded).files()) == 8
    damage(sharded)
    with pytest.raises(BadCheckpoint) as caught:
        Checkpoint.open(sharded)
    assert sentence in caught.value.detail


def test_refuses_a_tensor_in_two_shards(sharded: Path) -> None:
    shard = sorted(sharded.glob("*.safetensors"))[0]
    tensors = load_file(shard)
    save_file({**tensors, "model.norm.weight": torch.ones(32)}, shard)
    with pytest.raises(BadCheckpoint, match=r"'model.norm.weight' stands in"):
        Checkpoint.open(sharded)


def test_symlinks_are_followed_inside_the_roots_only(tmp_path: Path, single: Path) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    (inside / "model").mkdir(parents=True)
    (inside / "blobs").mkdir()
    (single / "config.json").rename(inside / "model" / "config.json")
    (single / "model.safetensors").rename(inside / "blobs" / "a1b2")
    (inside / "model" / "model.safetensors").symlink_to(inside / "blobs" / "a1b2")
    Checkpoint.open(inside / "model", roots=[inside])  # the layout of the hub's cache

    (inside / "blobs" / "a1b2").rename(outside / "a1b2")
    (inside / "model" / "model.safetensors").unlink()
    (inside / "model" / "model.safetensors").symlink_to(outside / "a1b2")
    with pytest.raises(BadCheckpoint, match="symlink that leaves the allowed folders"):
        Checkpoint.open(inside / "model", roots=[inside])
    Checkpoint.open(inside / "model", roots=[inside, outside])


def test_a_path_that_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match="is not a folder"):
        Checkpoint.open(tmp_path / "absent")


def test_a_file_that_shrinks_after_opening(single: Path) -> None:
    checkpoint = Checkpoint.open(single)
    truncate(single)
    with pytest.raises(BadCheckpoint, match="ends inside tensor"):
        checkpoint.read(checkpoint.names()[-1])


def test_multi_token_prediction_layers_may_follow_the_blocks(single: Path) -> None:
    rewrite_config(single, num_hidden_layers=3, num_nextn_predict_layers=1)
    assert Checkpoint.open(single).names()


@pytest.mark.thorough
def test_reading_leaves_resident_memory_flat(tmp_path: Path) -> None:
    """400 MB read tensor by tensor must not stay resident; a process of its own, so that nothing else counts."""
    tensors = {f"model.layers.{i}.w": torch.zeros(25_000_000, dtype=torch.bfloat16) for i in range(8)}
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"num_hidden_layers": 8}')
    del tensors
    script = """
import sys
from pathlib import Path
from workers.engine.checkpoints.checkpoint import Checkpoint

def peak():  # not ru_maxrss, which a process inherits from the one that started it
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))

checkpoint = Checkpoint.open(Path(sys.argv[1]))
checkpoint.read(checkpoint.names()[0])
before = peak()
for name in checkpoint.names():
    checkpoint.read(name)
print(peak() - before)
"""
    grown_kib = int(subprocess.check_output([sys.executable, "-c", script, str(tmp_path)]))
    assert grown_kib < 100_000  # at most one further tensor of 50 MB
