"""What a local model's header claims is held against its file before anything is counted or looped over."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from app.services.local_files import inspect_model
from secateur.contract.errors import BadCheckpoint, UnsupportedModel
from tests.fixtures.small_files import write_gguf


def head(path: Path, *, blocks: int, tensors: int, kind: str = "I") -> Path:
    """Nothing but the claims: some hundred bytes."""
    value = string("llama.block_count") + struct.pack("<I" + kind, 4 if kind == "I" else 10, blocks)
    return write(path, tensors, said("general.architecture", "llama"), value)


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def said(key: str, value: str) -> bytes:
    return string(key) + struct.pack("<I", 8) + string(value)


def write(path: Path, tensors: int, *keys: bytes) -> Path:
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, tensors, len(keys)) + b"".join(keys))
    return path


@pytest.mark.parametrize(
    ("blocks", "tensors", "words"),
    [
        (30_000_000, 0, "30000000 blocks, and has 0 tensors"),
        (30_000_000, 30_000_000, "30000000 tensors, and has 102 bytes"),
        (30_000_000, 2**64 - 1, "18446744073709551615 tensors"),
        (2, 1, "2 blocks, and has 1 tensors"),
        (0, 1, "no blocks"),
    ],
)
def test_a_gguf_file_cannot_claim_more_than_it_holds(tmp_path: Path, blocks: int, tensors: int, words: str) -> None:
    head(tmp_path / "m.gguf", blocks=blocks, tensors=tensors)
    with pytest.raises(BadCheckpoint, match=words) as found:
        inspect_model("m.gguf", [tmp_path])
    assert found.value.errors[0].pointer == "/model/path"


def test_numbers_of_64_bits(tmp_path: Path) -> None:
    head(tmp_path / "m.gguf", blocks=2**63, tensors=1, kind="Q")
    with pytest.raises(BadCheckpoint, match="9223372036854775808 blocks"):
        inspect_model("m.gguf", [tmp_path])


def test_as_many_blocks_as_tensors(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", 12)
    assert inspect_model("m.gguf", [tmp_path]).blocks == 12


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"general.architecture": "mamba"}, "'mamba'"),
        ({"general.architecture": "llama", "general.type": "adapter"}, "'adapter'"),
        ({"general.architecture": "llama", "tokenizer.ggml.model": "bert"}, "'bert'"),
        ({"general.architecture": "qwen2", "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "brand-new"}, "new"),
    ],
)
def test_a_file_that_no_stage_could_import(tmp_path: Path, keys: dict[str, str], words: str) -> None:
    write(tmp_path / "m.gguf", 1, *(said(key, value) for key, value in keys.items()))
    with pytest.raises(UnsupportedModel, match=words) as found:
        inspect_model("m.gguf", [tmp_path], pointer="/path")
    assert found.value.errors[0].pointer == "/path"


def test_strings_that_are_longer_than_the_file(tmp_path: Path) -> None:
    long = string("general.name") + struct.pack("<IQ", 8, 2**63)
    write(tmp_path / "m.gguf", 1, said("general.architecture", "llama"), long)
    assert inspect_model("m.gguf", [tmp_path]).blocks is None


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer.model"])
def test_a_clone_without_git_lfs_is_told_at_submission(tmp_path: Path, name: str) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text('{"num_hidden_layers": 4}')
    (tmp_path / "m" / "model.safetensors").write_bytes(b"")
    assert inspect_model("m", [tmp_path]).blocks == 4
    (tmp_path / "m" / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n")
    with pytest.raises(BadCheckpoint, match=f"{name} is a Git LFS pointer") as found:
        inspect_model("m", [tmp_path])
    assert found.value.errors[0].pointer == "/model/path"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ('{"num_hidden_layers": 1000000000}', "num_hidden_layers is larger than any model"),
        ('{"num_hidden_layers": -4}', "declares -4 blocks"),
        ('{"a":' * 5000 + "1" + "}" * 5000, r"config\.json"),
        ('{"a": 1, "a": 2}', "the key 'a' twice"),
        ("[1]", "not a JSON object"),
        (" " * 1_000_001 + "{}", "1000003 bytes"),
    ],
)
def test_configs_that_claim_or_nest_too_much(tmp_path: Path, config: str, words: str) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text(config)
    (tmp_path / "m" / "model.safetensors").write_bytes(b"")
    with pytest.raises(BadCheckpoint, match=words) as found:
        inspect_model("m", [tmp_path])
    assert found.value.errors[0].pointer == "/model/path"


@pytest.mark.parametrize(
    "name", ["config.json", "x.safetensors", "tokenizer_config.json", "README", "additional_chat_templates/a.jinja"]
)
def test_a_named_pipe_in_a_model_is_told_and_not_waited_for(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "model"
    (folder / "additional_chat_templates").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(8))
    os.mkfifo(folder / name)
    with pytest.raises(BadCheckpoint, match=f"{Path(name).name} is a named pipe"):
        inspect_model("model", [tmp_path])


def test_a_named_pipe_in_place_of_a_gguf_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.gguf")
    with pytest.raises(BadCheckpoint, match=r"m\.gguf is a named pipe"):
        inspect_model("m.gguf", [tmp_path])
