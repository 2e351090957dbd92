"""Depth pruning of GGUF files: read back by the gguf package, transformers, and llama.cpp where it is installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from secateur.contract.errors import BadCheckpoint, InvalidInput, StageFailed, UnsupportedModel
from workers.engine.checkpoints.gguf_file import encode_tensors, encode_value, read_gguf_header
from workers.engine.pruning.gguf_depth import prune_gguf_depth

SIZES: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 96, "vocab_size": 288, "num_hidden_layers": 6}
Write = Callable[..., Path]


@pytest.fixture
def tiny(make_model: Callable[..., PreTrainedModel], write_gguf: Write, tmp_path: Path) -> Write:
    """tiny("Q8_0"): a Llama of six blocks."""

    def write(quantisation: str = "F32", **extra: Any) -> Path:
        model = make_model("llama", **SIZES)
        return write_gguf(tmp_path / "tiny.gguf", model, quantisation=quantisation, **extra)

    return write


@pytest.mark.parametrize("quantisation", ["F32", "F16", "BF16", "Q8_0", "Q4_1", "Q5_0"])
def test_the_gguf_package_reads_it_back(quantisation: str, tiny: Write, tmp_path: Path) -> None:
    source = tiny(quantisation, llama__attention__head_count_kv=[2, 2, 2, 2, 2, 2])
    result = prune_gguf_depth(source, tmp_path / "pruned.gguf", drop=[4, 1])
    assert result.kept == [0, 2, 3, 5]
    assert result.dropped == [1, 4]

    before, after = gguf.GGUFReader(source), gguf.GGUFReader(tmp_path / "pruned.gguf")
    assert after.fields["llama.block_count"].contents() == 4
    assert after.fields["llama.attention.head_count_kv"].contents() == [2, 2, 2, 2]
    for key, field in before.fields.items():
        if key not in ("llama.block_count", "llama.attention.head_count_kv", "GGUF.tensor_count"):
            assert after.fields[key].contents() == field.contents()
    old = {tensor.name: tensor for tensor in before.tensors}
    new = {tensor.name: tensor for tensor in after.tensors}
    expected = {name: name for name in old if not name.startswith("blk.")}
    for position, number in enumerate(result.kept):
        parts = [name.split(".", 2)[2] for name in old if name.startswith(f"blk.{number}.")]
        expected |= {f"blk.{position}.{part}": f"blk.{number}.{part}" for part in parts}
    assert new.keys() == expected.keys()
    for name, source_name in expected.items():
        assert new[name].tensor_type == old[source_name].tensor_type
        assert new[name].shape.tolist() == old[source_name].shape.tolist()
        assert new[name].data_offset % after.alignment == 0
        assert np.array_equal(new[name].data, old[source_name].data)
    assert result.parameters_after == sum(int(tensor.n_elements) for tensor in after.tensors)
    assert result.bytes_after == (tmp_path / "pruned.gguf").stat().st_size
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("quantisation", ["F32", "Q8_0"])
def test_equals_the_bypassed_original(quantisation: str, tiny: Write, tmp_path: Path) -> None:
    source = tiny(quantisation)
    prune_gguf_depth(source, tmp_path / "pruned.gguf", drop=[0, 3])
    original: Any = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=source.name, dtype=torch.float32)
    pruned: Any = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="pruned.gguf", dtype=torch.float32)
    assert pruned.config.num_hidden_layers == 4
    ids = torch.randint(3, 288, (2, 12), generator=torch.Generator().manual_seed(0))
    for block in (0, 3):
        original.model.layers[block].register_forward_hook(lambda module, args, output: args[0])
    with torch.no_grad():
        assert torch.equal(pruned(ids, use_cache=False).logits, original(ids, use_cache=False).logits)


def test_llama_cpp_runs_it(tiny: Write, tmp_path: Path) -> None:
    reason = "llama-cpp-python is not installed; it compiles for minutes, so it is no dependency"
    llama_cpp: Any = pytest.importorskip("llama_cpp", reason=reason)
    source = tiny("Q8_0")
    prune_gguf_depth(source, tmp_path / "pruned.gguf", drop=[1, 4])
    model = llama_cpp.Llama(str(tmp_path / "pruned.gguf"), n_ctx=32, logits_all=True, verbose=False)
    tokens = [1, 30, 40, 50]
    model.eval(tokens)
    loaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="pruned.gguf", dtype=torch.float32)
    with torch.no_grad():
        expected = loaded(torch.tensor([tokens])).logits[0]
    got = torch.tensor(np.array(model.scores[: len(tokens)]))
    assert torch.nn.functional.cosine_similarity(got, expected, dim=-1).min() > 0.99


@pytest.mark.parametrize(("drop", "sentence"), [([], "No block"), ([6], "no block 6"), ([1, 1], "twice")])
def test_blocks_that_cannot_be_dropped(drop: list[int], sentence: str, tiny: Write, tmp_path: Path) -> None:
    source = tiny()
    with pytest.raises(InvalidInput, match=sentence):
        prune_gguf_depth(source, tmp_path / "pruned.gguf", drop=drop)


def with_architecture(path: Path, name: str, **numbers: int) -> Path:
    """The same file as of another family, with further keys of it."""
    header = read_gguf_header(path)
    raw = path.read_bytes()
    keys = list(header.values.values())
    parts = []
    for value in keys:
        if value.key == "general.architecture":
            parts.append(encode_value(value.key, 8, name))
        elif value.key.startswith("llama.") and value.kind in (4, 6):
            parts.append(encode_value(value.key.replace("llama.", f"{name}."), value.kind, value.value))
        elif not value.key.startswith("llama."):
            parts.append(raw[value.start : value.end])
    parts += [encode_value(f"{name}.{key.replace('__', '.')}", 4, number) for key, number in numbers.items()]
    counts = raw[4:16] + len(parts).to_bytes(8, "little")
    table = encode_tensors(header.tensors, header.alignment)
    head = raw[:4] + counts + b"".join(parts) + table
    path.write_bytes(head + b"\0" * (-len(head) % header.alignment) + raw[header.data_start :])
    return path


def test_a_family_with_a_period_loses_whole_periods_only(tiny: Write, tmp_path: Path) -> None:
    source = with_architecture(tiny(), "gemma2", attention__sliding_window=4096)
    with pytest.raises(UnsupportedModel, match="every 2 blocks of a gemma2 model differ"):
        prune_gguf_depth(source, tmp_path / "pruned.gguf", drop=[1])
    assert prune_gguf_depth(source, tmp_path / "pruned.gguf", drop=[1, 2]).kept == [0, 3, 4, 5]
    assert prune_gguf_depth(source, tmp_path / "tail.gguf", drop=[5]).kept == [0, 1, 2, 3, 4]


def test_counts_of_leading_blocks_follow(tiny: Write, tmp_path: Path) -> None:
    source = with_architecture(tiny(), "deepseek2", leading_dense_block_count=3)
    prune_gguf_depth(source, tmp_path / "pruned.gguf", drop=[1, 4])
    assert read_gguf_header(tmp_path / "pruned.gguf").number("leading_dense_block_count") == 2


def test_multi_token_prediction_layers_are_dropped(tiny: Write, tmp_path: Path) -> None:
    source = with_architecture(tiny(), "glm4moe", nextn_predict_layers=1)
    assert prune_gguf_depth(source, tmp_path / "pruned.gguf", drop=[1]).kept == [0, 2, 3, 4]
    header = read_gguf_header(tmp_path / "pruned.gguf")
    assert (header.number("block_count"), header.number("nextn_predict_layers")) == (4, 0)
    assert not [tensor for tensor in header.tensors if tensor.name.startswith("blk.4.")]


@pytest.mark.parametrize("key", ["ssm__state_size", "attention__shared_kv_layers"])
def test_models_that_are_no_stack_are_refused(key: str, tiny: Write, tmp_path: Path) -> None:
    source = with_architecture(tiny(), "hybrid", **{key: 1})
    with pytest.raises(UnsupportedModel):
        prune_gguf_depth(source, tmp_path / "pruned.gguf", drop=[1])


def test_a_count_that_disagrees_with_the_tensors(tiny: Write, tmp_path: Path) -> None:
    source = tiny()
    raw = source.read_bytes()
    right, wrong = encode_value("llama.block_count", 4, 6), encode_value("llama.block_count", 4, 7)
    source.write_bytes(raw.replace(right, wrong))
    with pytest.raises(BadCheckpoint, match="block_count is 7, and the tensors make up 6 blocks"):
        prune_gguf_depth(source, tmp_path / "pruned.gguf", drop=[1])


def test_an_existing_target_is_kept(tiny: Write, tmp_path: Path) -> None:
    source = tiny()
    with pytest.raises(StageFailed, match="exists already"):
        prune_gguf_depth(source, source, drop=[1])


def test_progress_counts_every_byte(tiny: Write, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    prune_gguf_depth(
        tiny(), tmp_path / "pruned.gguf", drop=[1], progress=lambda done, total, unit: seen.append((done, total))
    )
    assert seen[-1][0] == seen[-1][1]
