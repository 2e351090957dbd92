"""Checkpoint → GGUF → what transformers reads from it: the same model, within the type's rounding."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from gguf.quants import dequantize
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from secateur.contract.errors import StageFailed, UnsupportedModel
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.gguf.cuts import QWEN2_WORDS
from workers.engine.checkpoints.gguf_file import read_gguf_header
from workers.engine.checkpoints.gguf_import import import_gguf
from workers.engine.model.loading import load_model
from workers.engine.pruning.sub_block import prune_sub_block
from workers.engine.quantise.gguf_export import export_gguf, refuse_unsupported
from workers.engine.quantise.gguf_tensors import interleave

SIZES: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 96, "vocab_size": 300}
K_SIZES: dict[str, Any] = {**SIZES, "hidden_size": 256, "intermediate_size": 512}  # rows that super-blocks fill
TEXTS = ("hello there", "hell 123 he", " two  spaces", "ünïcode → ok", "line\nbreak")
ERRORS = {
    **{"F16": 1e-3, "BF16": 5e-3, "Q8_0": 0.01, "Q5_1": 0.06, "Q5_0": 0.06, "Q4_1": 0.12, "Q4_0": 0.12},
    **{"Q6_K": 0.02, "Q5_K_M": 0.04, "Q5_K_S": 0.04, "Q4_K_M": 0.08, "Q4_K_S": 0.08},
    **{"Q3_K_M": 0.15, "Q3_K_S": 0.15, "Q2_K": 0.3},
}


QWEN2_CUT = pre_tokenizers.Sequence(
    [
        pre_tokenizers.Split(Regex(QWEN2_WORDS), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
)


def byte_level(*, cut: Any = None, begins: bool = True) -> PreTrainedTokenizerFast:
    """GPT-2's kind, with two merges."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["<unk>", "<s>", "</s>", *alphabet, "he", "ll"]
    tokenizer = Tokenizer(models.BPE(vocab={word: n for n, word in enumerate(words)}, merges=[("h", "e"), ("l", "l")]))
    tokenizer.pre_tokenizer = cut or pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if begins:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # no annotations upstream
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", chat_template="{{ messages }}"
    )


@pytest.fixture
def checkpoint(
    make_model: Callable[..., PreTrainedModel], save_model: Callable[..., Path]
) -> Callable[..., tuple[Any, Path]]:
    """checkpoint("llama", tokenizer=byte_level()): a tiny model and its folder."""

    def make(model_type: str = "llama", *, tokenizer: Any = None, **settings: Any) -> tuple[Any, Path]:
        model = make_model(model_type, **{**SIZES, **settings})
        path = save_model(model)
        (tokenizer or byte_level()).save_pretrained(path)
        return model, path

    return make


@pytest.mark.thorough
@pytest.mark.parametrize("kind", sorted(ERRORS))
def test_the_file_is_read_back_as_the_same_model(
    kind: str, checkpoint: Callable[..., tuple[Any, Path]], tmp_path: Path
) -> None:
    model, source = checkpoint(**(K_SIZES if "K" in kind else SIZES))
    file = tmp_path / "out" / f"model-{kind}.gguf"
    outcome = export_gguf(Checkpoint.open(source), file, kind=kind)
    import_gguf(file, tmp_path / "back")
    back: Any = load_model(Checkpoint.open(tmp_path / "back"), device=torch.device("cpu"), dtype=torch.float32)
    total = error = 0.0
    for name, parameter in model.named_parameters():
        before = parameter.detach()
        after = back.state_dict()[name]
        if before.dim() == 1:  # norms
            assert torch.equal(before, after)
        else:
            total, error = total + float(before.square().sum()), error + float((after - before).square().sum())
    assert (error / total) ** 0.5 == pytest.approx(outcome.relative_error, rel=0.05)
    assert 0 < outcome.relative_error < ERRORS[kind]
    ids = torch.randint(3, 259, (2, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before, after = model(ids).logits, back(ids).logits
    grown = 8 if "K" in kind else 3  # what the wider model makes of the same error of its weights
    assert float((after - before).std()) < grown * ERRORS[kind] * float(before.std())
    assert outcome.quantised_parameters + outcome.other_parameters == sum(p.numel() for p in model.parameters())
    assert outcome.bytes == sum(tensor.nbytes for tensor in read_gguf_header(file).tensors)


@pytest.mark.parametrize(
    ("model_type", "settings"),
    [
        ("llama", {"tie_word_embeddings": False}),
        ("llama", {"num_key_value_heads": 4, "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}),
        ("llama", {"head_dim": 32}),
        ("mistral", {"sliding_window": None}),
        ("mistral", {"sliding_window": 64, "max_position_embeddings": 64}),
        ("qwen2", {"use_sliding_window": False, "tie_word_embeddings": True}),
        ("qwen3", {"head_dim": 128}),
        ("qwen3", {"head_dim": 16}),
    ],
)
def test_other_shapes_and_families_compute_the_same(
    model_type: str,
    settings: dict[str, Any],
    checkpoint: Callable[..., tuple[Any, Path]],
    make_ids: Callable[..., Tensor],
    tmp_path: Path,
) -> None:
    # transformers reads the tokenizer of every qwen2 model as Qwen's, with its cut and no token that begins a text
    tokenizer = byte_level(cut=QWEN2_CUT, begins=False) if model_type == "qwen2" else None
    model, source = checkpoint(model_type, tokenizer=tokenizer, **settings)
    export_gguf(Checkpoint.open(source), tmp_path / "out" / "model.gguf", kind="F16")
    import_gguf(tmp_path / "out" / "model.gguf", tmp_path / "back")
    back: Any = load_model(Checkpoint.open(tmp_path / "back"), device=torch.device("cpu"), dtype=torch.float32)
    with torch.no_grad():
        before, after = model(make_ids()).logits, back(make_ids()).logits
    assert torch.allclose(before, after, atol=5e-3)


def test_the_packages_own_reader_agrees(checkpoint: Callable[..., tuple[Any, Path]], tmp_path: Path) -> None:
    model, source = checkpoint(intermediate_size=112)  # rows of the down-projection fill no blocks
    file = tmp_path / "out" / "model.gguf"
    export_gguf(Checkpoint.open(source), file, kind="Q4_0")
    reader = gguf.GGUFReader(file)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert tensors["token_embd.weight"].tensor_type == gguf.GGMLQuantizationType.Q8_0  # finer than the others
    assert tensors["blk.0.attn_q.weight"].tensor_type == gguf.GGMLQuantizationType.Q4_0
    assert tensors["blk.0.ffn_down.weight"].tensor_type == gguf.GGMLQuantizationType.F16
    assert tensors["blk.0.attn_norm.weight"].tensor_type == gguf.GGMLQuantizationType.F32
    assert "output.weight" not in tensors  # tied
    query = torch.from_numpy(dequantize(tensors["blk.0.attn_q.weight"].data, gguf.GGMLQuantizationType.Q4_0))
    expected = interleave(model.model.layers[0].self_attn.q_proj.weight.detach(), 4)
    assert float((query - expected).norm() / expected.norm()) < 0.12
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["general.architecture"] == "llama"
    assert fields["general.file_type"] == 2
    assert fields["llama.feed_forward_length"] == 112
    assert fields["llama.attention.head_count_kv"] == 2
    assert fields["tokenizer.ggml.pre"] == "gpt-2"
    assert fields["tokenizer.chat_template"] == "{{ messages }}"
    assert fields["tokenizer.ggml.add_bos_token"] is True
    assert len(fields["tokenizer.ggml.tokens"]) == 300
    assert fields["tokenizer.ggml.token_type"][-1] == 5  # a row of the embedding that no token has


@pytest.mark.parametrize("kind", sorted(ERRORS))
def test_the_packages_own_writer_makes_the_same_bytes(
    kind: str, checkpoint: Callable[..., tuple[Any, Path]], tmp_path: Path
) -> None:
    _, source = checkpoint(intermediate_size=112)
    file = tmp_path / "out" / "model.gguf"
    export_gguf(Checkpoint.open(source), file, kind=kind)
    reader: Any = gguf.GGUFReader(file)
    writer: Any = gguf.GGUFWriter(tmp_path / "theirs.gguf", "llama")
    for name, field in reader.fields.items():
        if name not in ("GGUF.version", "GGUF.tensor_count", "GGUF.kv_count", "general.architecture"):
            writer.add_key_value(name, field.contents(), field.types[0], *field.types[1:])
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert file.read_bytes() == (tmp_path / "theirs.gguf").read_bytes()


def test_the_tokenizer_goes_with_it(checkpoint: Callable[..., tuple[Any, Path]], tmp_path: Path) -> None:
    _, source = checkpoint()
    export_gguf(Checkpoint.open(source), tmp_path / "out" / "model.gguf", kind="Q8_0")
    before: Any = AutoTokenizer.from_pretrained(source)
    after: Any = AutoTokenizer.from_pretrained(tmp_path / "out", gguf_file="model.gguf")
    for text in TEXTS:
        assert after(text, add_special_tokens=False)["input_ids"] == before(text, add_special_tokens=False)["input_ids"]
    assert (after.bos_token_id, after.eos_token_id) == (before.bos_token_id, before.eos_token_id)


@pytest.mark.parametrize(
    ("cut", "name"),
    [
        (
            pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]),
            "smollm",
        ),
        (pre_tokenizers.Whitespace(), None),
        (pre_tokenizers.ByteLevel(add_prefix_space=True), None),
    ],
)
def test_how_text_is_cut_has_a_name_or_is_refused(
    cut: Any, name: str | None, checkpoint: Callable[..., tuple[Any, Path]], tmp_path: Path
) -> None:
    _, source = checkpoint(tokenizer=byte_level(cut=cut))
    if name is None:
        with pytest.raises(UnsupportedModel, match="cuts text by"):
            refuse_unsupported(Checkpoint.open(source), tokenizer_from=None)
        return
    export_gguf(Checkpoint.open(source), tmp_path / "out" / "model.gguf", kind="Q8_0")
    assert read_gguf_header(tmp_path / "out" / "model.gguf").values["tokenizer.ggml.pre"].value == name


@pytest.mark.parametrize(
    ("around", "called"),
    [
        ("<s> $A", "<s>"),
        ("<s> $A", None),  # puts a token first that its settings do not call so
        ("<s> $A", "</s>"),
        ("<s> $A </s>", "<s>"),
        ("$A </s>", "<s>"),
        ("$A", "<s>"),
        ("<s> <unk> $A", "<s>"),
        ("$A <s>", "<s>"),
        ("</s> <s> $A", None),
    ],
)
def test_what_a_tokenizer_puts_around_a_text_is_said_or_refused(
    around: str, called: str | None, checkpoint: Callable[..., tuple[Any, Path]], tmp_path: Path
) -> None:
    tokenizer: Any = byte_level(begins=False)
    tokens = [(token, number) for number, token in enumerate(("<unk>", "<s>", "</s>")) if token in around]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single=around, special_tokens=tokens)
    tokenizer.bos_token = called
    _, source = checkpoint(tokenizer=tokenizer)
    if around not in ("<s> $A", "<s> $A </s>", "$A </s>", "$A"):
        with pytest.raises(UnsupportedModel, match="around a text, which a GGUF file cannot say"):
            refuse_unsupported(Checkpoint.open(source), tokenizer_from=None)
        return
    export_gguf(Checkpoint.open(source), tmp_path / "out" / "model.gguf", kind="Q8_0")
    import_gguf(tmp_path / "out" / "model.gguf", tmp_path / "read")
    before, after = (AutoTokenizer.from_pretrained(folder) for folder in (source, tmp_path / "read"))
    for text in TEXTS:
        assert after(text)["input_ids"] == before(text)["input_ids"]


def test_the_tokenizer_of_a_gguf_file_is_copied(
    checkpoint: Callable[..., tuple[Any, Path]], write_gguf: Callable[..., Path], tmp_path: Path
) -> None:
    model, source = checkpoint()
    original = write_gguf(tmp_path / "original.gguf", model)
    export_gguf(Checkpoint.open(source), tmp_path / "out" / "model.gguf", kind="Q8_0", tokenizer_from=original)
    before, after = (gguf.GGUFReader(path).fields for path in (original, tmp_path / "out" / "model.gguf"))
    names = {name for name in before if name.startswith("tokenizer.")}
    assert names == {name for name in after if name.startswith("tokenizer.")}
    assert all(before[name].contents() == after[name].contents() for name in names)


def test_nothing_is_written_over(checkpoint: Callable[..., tuple[Any, Path]], tmp_path: Path) -> None:
    _, source = checkpoint()
    (tmp_path / "out").mkdir()
    with pytest.raises(StageFailed, match="exists already"):
        export_gguf(Checkpoint.open(source), tmp_path / "out" / "model.gguf", kind="Q8_0")


@pytest.mark.parametrize("stored", ["a head of its own", "the head alone"])
def test_the_head_is_that_of_the_files_whatever_the_config_says_of_it(
    stored: str, checkpoint: Callable[..., tuple[Any, Path]], make_ids: Callable[..., Tensor], tmp_path: Path
) -> None:
    model, source = checkpoint(tie_word_embeddings=stored == "the head alone")
    if stored == "the head alone":
        tensors = load_file(source / "model.safetensors")
        tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")
        save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    else:
        config = json.loads((source / "config.json").read_text())
        (source / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    export_gguf(Checkpoint.open(source), tmp_path / "out" / "model.gguf", kind="F16")
    names = {tensor.name for tensor in read_gguf_header(tmp_path / "out" / "model.gguf").tensors}
    assert ("output.weight" in names) == (stored == "a head of its own")
    import_gguf(tmp_path / "out" / "model.gguf", tmp_path / "back")
    back: Any = load_model(Checkpoint.open(tmp_path / "back"), device=torch.device("cpu"), dtype=torch.float32)
    with torch.no_grad():
        assert torch.allclose(back(make_ids()).logits, model(make_ids()).logits, atol=5e-3)


def without_attention(model: Any, source: Path, target: Path, blocks: list[int]) -> Any:
    """The model without the attention of `blocks`, and its checkpoint with the tokenizer in `target`."""
    prune_sub_block(Checkpoint.open(source), target, drop=[f"{block}.attention" for block in blocks])
    return load_model(Checkpoint.open(target), device=torch.device("cpu"), dtype=torch.float32)


@pytest.mark.parametrize("settings", [{}, {"attention_bias": True}, {"num_key_value_heads": 2, "head_dim": 8}])
def test_blocks_without_attention_are_said_block_by_block(
    settings: dict[str, Any], checkpoint: Callable[..., tuple[Any, Path]], tmp_path: Path
) -> None:
    """As llama.cpp's `deci`, which this project reads back as a checkpoint of its own, ready for vLLM again."""
    model, source = checkpoint(**{"intermediate_size": 256, **settings})
    pruned = without_attention(model, source, tmp_path / "pruned", [1, 3])
    refuse_unsupported(Checkpoint.open(tmp_path / "pruned"), tokenizer_from=None)
    export_gguf(Checkpoint.open(tmp_path / "pruned"), tmp_path / "out" / "model.gguf", kind="F16")
    header = read_gguf_header(tmp_path / "out" / "model.gguf")
    heads, keys = model.config.num_attention_heads, model.config.num_key_value_heads
    assert header.architecture == "deci"
    assert header.values["deci.attention.head_count"].value == [heads, 0, heads, 0]
    assert header.values["deci.attention.head_count_kv"].value == [keys, 0, keys, 0]
    assert not any(tensor.name.startswith(("blk.1.attn", "blk.3.attn")) for tensor in header.tensors)
    import_gguf(tmp_path / "out" / "model.gguf", tmp_path / "back")
    back: Any = load_model(Checkpoint.open(tmp_path / "back"), device=torch.device("cpu"), dtype=torch.float32)
    ids = torch.randint(3, 259, (2, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(back(ids).logits, pruned(ids).logits, rtol=0, atol=2e-2)
    before, after = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("pruned", "back"))
    for key in ("model_type", "block_configs", "secateur", "auto_map"):
        assert before[key] == after[key], key


@pytest.mark.parametrize(
    ("model_type", "drop", "why"),
    [
        ("llama", ["0.attention"], "the first block, which has no attention"),
        ("llama", ["2.mlp"], "no MLP, attention and all"),
        ("qwen2", ["2.attention"], "of a Llama alone"),
    ],
)
def test_halves_that_llama_cpp_would_run_otherwise_are_refused(
    model_type: str, drop: list[str], why: str, checkpoint: Callable[..., tuple[Any, Path]], tmp_path: Path
) -> None:
    _, source = checkpoint(model_type)
    prune_sub_block(Checkpoint.open(source), tmp_path / "pruned", drop=drop)
    with pytest.raises(UnsupportedModel, match=why):
        refuse_unsupported(Checkpoint.open(tmp_path / "pruned"), tokenizer_from=None)
