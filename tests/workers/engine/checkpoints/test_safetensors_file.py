"""The header reader: agrees with the safetensors library on sound files, refuses every broken rule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from secateur.contract.errors import BadCheckpoint
from workers.engine.checkpoints.safetensors_file import MAX_HEADER_BYTES, encode_header, read_header


def file_of(header: dict[str, Any] | bytes, data: bytes, path: Path) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + data)
    return path


def u8(start: int, end: int) -> dict[str, Any]:
    return {"dtype": "U8", "shape": [end - start], "data_offsets": [start, end]}


def test_reads_what_the_library_writes(tmp_path: Path) -> None:
    tensors = {
        "a": torch.arange(6, dtype=torch.float32).reshape(2, 3),
        "b": torch.zeros(0, dtype=torch.int64),
        "c": torch.tensor(3, dtype=torch.bfloat16),
        "d": torch.ones(5, dtype=torch.float8_e4m3fn),
    }
    path = tmp_path / "model.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    header = read_header(path)
    assert header.metadata == {"format": "pt"}
    assert {entry.name: entry.shape for entry in header.tensors} == {"a": (2, 3), "b": (0,), "c": (), "d": (5,)}
    assert {entry.name: entry.dtype for entry in header.tensors} == {
        "a": "F32",
        "b": "I64",
        "c": "BF16",
        "d": "F8_E4M3",
    }
    data = path.read_bytes()
    for entry in header.tensors:
        assert data[entry.start : entry.end] == tensors[entry.name].flatten().view(torch.uint8).numpy().tobytes()


def test_the_library_reads_what_is_encoded(tmp_path: Path) -> None:
    source = tmp_path / "source.safetensors"
    save_file({"a": torch.ones(3), "ö": torch.arange(4)}, source, metadata={"format": "pt"})
    header = read_header(source)
    data = source.read_bytes()
    target = tmp_path / "target.safetensors"
    raw = encode_header(header.tensors, header.metadata)
    assert len(raw) % 8 == 0
    target.write_bytes(raw + b"".join(data[entry.start : entry.end] for entry in header.tensors))
    with safe_open(target, "pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert torch.equal(file.get_tensor("a"), torch.ones(3))
        assert torch.equal(file.get_tensor("ö"), torch.arange(4))


@pytest.mark.parametrize("start", [0, 8, 4088])
def test_the_data_can_begin_anywhere_in_a_page(tmp_path: Path, start: int) -> None:
    source = tmp_path / "source.safetensors"
    save_file({"a": torch.arange(1000)}, source)
    header = read_header(source)
    raw = encode_header(header.tensors, header.metadata, start=start)
    assert len(raw) % 4096 == start
    (tmp_path / "target.safetensors").write_bytes(raw + source.read_bytes()[header.data_start :])
    with safe_open(tmp_path / "target.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("a"), torch.arange(1000))


@pytest.mark.parametrize(
    ("header", "data", "sentence"),
    [
        ({"a": u8(0, 4), "b": u8(2, 6)}, 6, "'b' overlaps"),
        ({"a": u8(0, 4), "b": u8(0, 4)}, 4, "'b' overlaps"),
        ({"a": u8(0, 4), "b": u8(6, 8)}, 8, "2 bytes before tensor 'b'"),
        ({"a": u8(0, 4)}, 6, "2 bytes at the end"),
        ({"a": u8(0, 9)}, 4, "tensor 'a' ends at byte"),
        ({"a": {**u8(0, 4), "shape": [5]}}, 4, "tensor 'a' has 4 bytes"),
        ({"a": {**u8(0, 4), "shape": [2**62, 2**62]}}, 4, "tensor 'a' has 4 bytes"),
        ({"a": {**u8(0, 0), "shape": [0, 2**62]}, "b": {**u8(0, 0), "shape": [2**62, 2**62]}}, 0, "tensor 'b'"),
        ({"a": {**u8(0, 4), "shape": [-4]}}, 4, "tensor 'a' has a shape"),
        ({"a": {**u8(0, 4), "shape": [True]}}, 4, "tensor 'a' has a shape"),
        ({"a": {**u8(0, 4), "dtype": "Q8"}}, 4, "unknown dtype 'Q8'"),
        ({"a": {**u8(0, 4), "dtype": ["U8"]}}, 4, "unknown dtype"),
        ({"a": {**u8(0, 4), "data_offsets": [4, 0]}}, 4, "tensor 'a' has data_offsets"),
        ({"a": {**u8(0, 4), "data_offsets": [0, 4, 4]}}, 4, "tensor 'a' has data_offsets"),
        ({"a": {"dtype": "U8", "shape": [4]}}, 4, "tensor 'a' is not described"),
        ({"a": 3}, 4, "tensor 'a' is not described"),
        ({"__metadata__": {"x": 1}, "a": u8(0, 4)}, 4, "__metadata__"),
        (b'{"a":1,"a":2}', 0, "key 'a' twice"),
        (b"[1]", 0, "not a JSON object"),
        (b"\xff\xfe", 0, "not valid JSON"),
        (b'{"\\ud800":1}', 0, "not valid JSON"),
        (b"[" * 200_000, 0, "not valid JSON"),
        (b"{" + b"9" * 10_000 + b"}", 0, "not valid JSON"),
    ],
)
def test_refuses_a_broken_header(tmp_path: Path, header: dict[str, Any] | bytes, data: int, sentence: str) -> None:
    path = file_of(header, bytes(data), tmp_path / "weights.safetensors")
    with pytest.raises(BadCheckpoint) as caught:
        read_header(path)
    assert sentence in caught.value.detail
    assert caught.value.detail.startswith("weights.safetensors: ")
    assert "\n" not in caught.value.detail


@pytest.mark.parametrize("kept", [0, 7, 8, 40, 200])
def test_refuses_a_truncated_file(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"a": torch.ones(30), "b": torch.ones(30)}, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(BadCheckpoint, match="truncated"):
        read_header(path)


def test_refuses_a_header_over_the_limit_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    with path.open("wb") as file:
        file.write((MAX_HEADER_BYTES + 1).to_bytes(8, "little"))
        file.truncate(MAX_HEADER_BYTES + 100)  # sparse: takes no disk
    with pytest.raises(BadCheckpoint, match="over the limit"):
        read_header(path)


def test_a_file_that_is_missing_or_a_folder(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match="No such file"):
        read_header(tmp_path / "weights.safetensors")
    with pytest.raises(BadCheckpoint, match="cannot be read"):
        read_header(tmp_path)


def test_a_hostile_name_cannot_break_the_line(tmp_path: Path) -> None:
    path = file_of({"a\n\x1b[31m" + "x" * 500: 3}, b"", tmp_path / "weights.safetensors")
    with pytest.raises(BadCheckpoint) as caught:
        read_header(path)
    assert caught.value.detail.isprintable()
    assert len(caught.value.detail) < 250
