"""The fingerprint: the same for the same model however it is stored, another for any other."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from secateur.contract.errors import BadCheckpoint
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.fingerprint import file_digest, fingerprint


def test_layout_and_provenance_do_not_count(single: Path, sharded: Path) -> None:
    expected = fingerprint(Checkpoint.open(single))
    assert len(expected) == 64
    assert fingerprint(Checkpoint.open(sharded)) == expected
    config = json.loads((sharded / "config.json").read_text())
    changed = {**dict(reversed(config.items())), "_name_or_path": "elsewhere", "transformers_version": "9"}
    (sharded / "config.json").write_text(json.dumps(changed, indent=7))
    assert fingerprint(Checkpoint.open(sharded)) == expected


def test_one_bit_of_a_weight_counts(single: Path) -> None:
    before = fingerprint(Checkpoint.open(single))
    raw = bytearray((single / "model.safetensors").read_bytes())
    raw[-1] ^= 1
    (single / "model.safetensors").write_bytes(raw)
    assert fingerprint(Checkpoint.open(single)) != before


def test_names_shapes_and_config_count(single: Path) -> None:
    seen = {fingerprint(Checkpoint.open(single))}
    tensors = load_file(single / "model.safetensors")
    norm = tensors.pop("model.norm.weight")
    save_file({**tensors, "model.norm.bias": norm}, single / "model.safetensors")
    seen.add(fingerprint(Checkpoint.open(single)))
    save_file({**tensors, "model.norm.weight": norm.reshape(1, -1)}, single / "model.safetensors")
    seen.add(fingerprint(Checkpoint.open(single)))
    save_file({**tensors, "model.norm.weight": norm.view(torch.int32)}, single / "model.safetensors")
    seen.add(fingerprint(Checkpoint.open(single)))
    config = json.loads((single / "config.json").read_text())
    (single / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.1}))
    seen.add(fingerprint(Checkpoint.open(single)))
    assert len(seen) == 5


def test_it_is_remembered_until_a_file_changes(single: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    reads: list[int] = []

    def count(done: int, total: int, unit: str) -> None:
        reads.append(done)

    first = fingerprint(Checkpoint.open(single), cache=cache, progress=count)
    assert reads
    reads.clear()
    assert fingerprint(Checkpoint.open(single), cache=cache, progress=count) == first
    assert not reads
    weights = single / "model.safetensors"
    times = weights.stat()
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))  # the same size and time of writing
    assert fingerprint(Checkpoint.open(single), cache=cache) != first


def test_a_spoilt_memory_is_not_believed(single: Path, tmp_path: Path) -> None:
    first = fingerprint(Checkpoint.open(single), cache=tmp_path)
    (answer,) = (tmp_path / "fingerprints").iterdir()
    answer.write_text("")
    assert fingerprint(Checkpoint.open(single), cache=tmp_path) == first
    assert answer.read_text() == first


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float8_e5m2, torch.float64])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_weights_that_are_not_finite_have_none_and_the_tensor_is_named(
    single: Path, tmp_path: Path, dtype: torch.dtype, value: str
) -> None:
    tensors = load_file(single / "model.safetensors")
    broken = tensors["model.layers.2.mlp.up_proj.weight"].clone()
    broken[3, 2] = float(value)
    tensors["model.layers.2.mlp.up_proj.weight"] = broken.to(dtype)
    tensors["model.layers.2.masked_bias"] = torch.tensor(float("-inf"))  # a single number is no weight
    save_file(tensors, single / "model.safetensors")
    for _ in range(2):  # nothing is remembered of it
        with pytest.raises(BadCheckpoint, match=r"'model.layers.2.mlp.up_proj.weight' holds 1 NaN") as caught:
            fingerprint(Checkpoint.open(single), cache=tmp_path)
    assert caught.value.errors[0].pointer == "model"
    assert "float32" not in str(caught.value.to_problem())


def test_a_broken_checkpoint_has_none(single: Path) -> None:
    (single / "model.safetensors").write_bytes(b"")
    with pytest.raises(BadCheckpoint):
        fingerprint(Checkpoint.open(single))


def test_the_digest_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_digest(tmp_path / "file") == expected
    assert file_digest(tmp_path / "file", cache=tmp_path / "cache") == expected
