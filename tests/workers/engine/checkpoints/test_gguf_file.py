"""The GGUF head's reader: agrees with the gguf package on sound files, refuses every broken rule."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from secateur.contract.errors import BadCheckpoint
from workers.engine.checkpoints.gguf_file import MAX_STRING_BYTES, encode_string, encode_value, read_gguf_header


def sound(path: Path, *, alignment: int | None = None) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    if alignment:
        writer.add_custom_alignment(alignment)
    writer.add_block_count(2)
    writer.add_rope_freq_base(10000.0)
    writer.add_string("general.name", "tiny é")
    writer.add_bool("llama.yes", True)
    writer.add_array("llama.attention.head_count_kv", [4, 2])
    writer.add_array("llama.floats", [0.5, 1.5])
    writer.add_token_list(["a", "b\n", "ü"])
    writer.add_uint64("llama.large", 2**40)
    writer.add_tensor("blk.0.x.weight", np.arange(6, dtype=np.float32).reshape(2, 3))
    writer.add_tensor(
        "blk.1.x.weight", np.zeros(2 * 34, dtype=np.uint8).reshape(2, 34), raw_dtype=gguf.GGMLQuantizationType.Q8_0
    )
    writer.add_tensor("y", np.ones(5, dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("alignment", [None, 64, 256])
def test_agrees_with_the_package(alignment: int | None, tmp_path: Path) -> None:
    path = sound(tmp_path / "model.gguf", alignment=alignment)
    header = read_gguf_header(path)
    reader = gguf.GGUFReader(path)
    assert header.alignment == reader.alignment == (alignment or 32)
    assert header.data_start == reader.data_offset
    assert header.architecture == "llama"
    assert header.number("block_count") == 2
    assert header.number("absent") is None
    assert header.values["llama.large"].value == 2**40
    for key, value in header.values.items():
        if key == "tokenizer.ggml.tokens":
            assert (value.value, value.count) == (None, 3)
        else:
            assert value.value == reader.fields[key].contents()
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert [tensor.name for tensor in header.tensors] == list(tensors)
    for tensor in header.tensors:
        theirs = tensors[tensor.name]
        assert tensor.shape == tuple(theirs.shape.tolist())
        assert tensor.type_name == theirs.tensor_type.name
        assert (tensor.start, tensor.nbytes) == (theirs.data_offset, theirs.n_bytes)


def test_values_are_encoded_as_they_are_read(tmp_path: Path) -> None:
    path = sound(tmp_path / "model.gguf")
    raw = path.read_bytes()
    for value in read_gguf_header(path).values.values():
        if value.value is not None:
            encoded = encode_value(value.key, value.kind, value.value, element=value.element)
            assert encoded == raw[value.start : value.end]


def head(
    *keys: bytes, tensors: bytes = b"", tensor_count: int = 0, version: int = 3, key_count: int | None = None
) -> bytes:
    count = len(keys) if key_count is None else key_count
    return b"GGUF" + struct.pack("<IQQ", version, tensor_count, count) + b"".join(keys) + tensors


def row(name: str, shape: list[int], kind: int, offset: int) -> bytes:
    return encode_string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def array(element: int, count: int, data: bytes = b"") -> bytes:
    return encode_string("k") + struct.pack("<IIQ", 9, element, count) + data


ARCHITECTURE = encode_value("general.architecture", 8, "llama")
NESTED = struct.pack("<IQ", 9, 1) * 5


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"", "truncated"),
        (b"GGU", "truncated"),
        (b"GGML" + bytes(60), "does not begin with the GGUF magic"),
        (head(version=1), "of version 1"),
        (head(version=3 << 24), "big-endian"),
        (head(key_count=2**60), "claims 1152921504606846976 keys"),
        (head(key_count=1), "claims 1 keys"),
        (head(tensor_count=2**40) + bytes(100), "claims 1099511627776 tensors"),
        (head(array(4, 2**61)), "claims 2305843009213693952 elements of 'k'"),  # an endless array
        (head(array(8, 2**40) + bytes(100)), "claims 1099511627776 elements of 'k'"),
        (head(array(8, 1, struct.pack("<Q", MAX_STRING_BYTES + 1)) + bytes(10)), "over the limit"),
        (head(array(8, 1, struct.pack("<Q", 9)) + bytes(8)), "truncated"),
        (head(array(9, 1, NESTED + bytes(20))), "nested too deeply"),
        (head(array(13, 1, bytes(20))), "unknown type 13"),
        (head(encode_string("k") + struct.pack("<I", 99) + bytes(8)), "unknown value type 99"),
        (head(ARCHITECTURE, ARCHITECTURE), "'general.architecture' stands twice"),
        (head(struct.pack("<Q", 2) + b"\xff\xfe" + struct.pack("<IB", 0, 1) + bytes(8)), "not UTF-8"),
        (head(encode_value("general.alignment", 4, 24)), "a power of two is expected"),
        (head(encode_value("general.alignment", 4, 0)), "a power of two is expected"),
        (head(encode_value("general.alignment", 8, "x")), "a power of two is expected"),
        (head(tensors=row("a", [4], 0, 16), tensor_count=1) + bytes(200), "'a' begins at 16"),
        (head(tensors=row("a", [4], 0, 2**63), tensor_count=1) + bytes(200), "before tensor 'a' belong to no tensor"),
        (head(tensors=row("a", [4] * 5, 0, 0), tensor_count=1) + bytes(200), "5 dimensions"),
        (head(tensors=row("a", [], 0, 0), tensor_count=1) + bytes(200), "0 dimensions"),
        (head(tensors=row("a", [4], 99, 0), tensor_count=1) + bytes(200), "unknown type 99"),
        (head(tensors=row("a", [33], 8, 0), tensor_count=1) + bytes(200), "no multiple of its blocks of 32"),
        (head(tensors=row("a", [0], 0, 0), tensor_count=1) + bytes(200), "is empty"),
        (head(tensors=row("a", [2**62, 2**62], 0, 0), tensor_count=1) + bytes(200), "truncated or lies"),
        (head(tensors=row("a", [40], 0, 0), tensor_count=1) + bytes(50), "truncated or"),
        (head(tensors=row("a", [8], 0, 0) + row("b", [8], 0, 0), tensor_count=2) + bytes(200), "'b' overlaps"),
        (head(tensors=row("a", [8], 0, 0) + row("b", [8], 0, 64), tensor_count=2) + bytes(200), "32 bytes before"),
        (head(tensors=row("a", [8], 0, 0) + row("a", [8], 0, 32), tensor_count=2) + bytes(200), "'a' stands twice"),
        (head(tensors=row("a", [8], 0, 0), tensor_count=1) + bytes(200), "at the end belong to no tensor"),
    ],
)  # fmt: skip
def test_refuses_a_broken_file(raw: bytes, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(raw)
    with pytest.raises(BadCheckpoint) as caught:
        read_gguf_header(path)
    assert sentence in caught.value.detail
    assert caught.value.detail.startswith("model.gguf: ")
    assert "\n" not in caught.value.detail


def test_every_truncation_is_seen(tmp_path: Path) -> None:
    raw = sound(tmp_path / "model.gguf").read_bytes()
    header = read_gguf_header(tmp_path / "model.gguf")
    short = tmp_path / "short.gguf"
    for size in [*range(0, header.data_start, 7), header.tensors[-1].end - 1]:
        short.write_bytes(raw[:size])
        with pytest.raises(BadCheckpoint):
            read_gguf_header(short)
    short.write_bytes(raw[: header.tensors[-1].end])  # the last tensor's padding may be left out
    assert len(read_gguf_header(short).tensors) == 3


def test_a_file_without_an_architecture(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(head())
    header = read_gguf_header(tmp_path / "model.gguf")
    with pytest.raises(BadCheckpoint, match=r"general\.architecture"):
        _: Any = header.architecture


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match="No such file"):
        read_gguf_header(tmp_path / "model.gguf")
