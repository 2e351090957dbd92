"""Sentencepiece's byte-pair encoding in a GGUF file: cut as the checkpoint's tokenizer cuts, by whoever reads it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from secateur.contract.errors import UnsupportedModel
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.gguf_import import import_gguf
from workers.engine.model.loading import load_model
from workers.engine.quantise.gguf_export import export_gguf, refuse_unsupported

TRAINING = (
    "the river ran past the stone garden and the winter light was on the water",
    "she read the paper by the window while the engine of the boat was running",
    "another thing that they thought of then was the weather in the other forest",
    "music from the garden, and then the rather thin sound of running water in it",
)
TEXTS = (
    "the weather in the garden",
    "another  thing,   then",
    "ünïcode → 水 ok",
    "line\nbreak and\ttab",
    "thethethe anananan rrrr",
    "x",
    "",
)
LLAMA_NORMALIZER = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
RUNS = ["▁▁", "▁▁▁▁", "▁▁▁"]
METASPACE = pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False)


def learnt() -> tuple[list[str], list[str]]:
    """Characters, and tokens in the order in which they were learnt; words begin with "▁"."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁")
    tokenizer.train_from_iterator(TRAINING, trainers.BpeTrainer(vocab_size=190, show_progress=False))
    numbers: dict[str, int] = tokenizer.get_vocab()
    words = sorted(numbers, key=numbers.__getitem__)
    return [word for word in words if len(word) == 1], [*RUNS, *(word for word in words if len(word) > 1)]


def sentencepiece(
    *,
    normalizer: Any = LLAMA_NORMALIZER,
    cut: Any = None,
    change: Callable[[list[tuple[str, str]]], list[tuple[str, str]]] = lambda merges: merges,
    settings: dict[str, Any] | None = None,
) -> PreTrainedTokenizerFast:
    """Llama 2's kind: control tokens, bytes, tokens in the order in which they are merged, characters.

    Every way to make a token of two others is a pair, as in what is converted from a sentencepiece model.
    """
    characters, merged = learnt()
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *merged, *characters]
    known = {*merged, *characters}
    pairs = [(word[:at], word[at:]) for word in merged for at in range(1, len(word))]
    merges = change([pair for pair in pairs if known.issuperset(pair)])
    vocabulary = {word: number for number, word in enumerate(words)}
    model = models.BPE(
        vocab=vocabulary,
        merges=merges,
        unk_token="<unk>",
        **{"fuse_unk": True, "byte_fallback": True, **(settings or {})},
    )
    tokenizer = Tokenizer(model)
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if cut is not None:
        tokenizer.pre_tokenizer = cut
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.add_tokens([AddedToken("<think>", normalized=False)])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # no annotations upstream
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )


@pytest.fixture
def checkpoint(
    make_model: Callable[..., PreTrainedModel], save_model: Callable[..., Path]
) -> Callable[..., tuple[Any, Path]]:
    """checkpoint(tokenizer): a tiny Llama and its folder; the embedding has more rows than the tokenizer has tokens."""

    def make(tokenizer: Any, model_type: str = "llama", **settings: Any) -> tuple[Any, Path]:
        model = make_model(
            model_type, **{"hidden_size": 64, "intermediate_size": 96, "vocab_size": len(tokenizer) + 3, **settings}
        )
        path = save_model(model)
        tokenizer.save_pretrained(path)
        return model, path

    return make


def fields_of(file: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in gguf.GGUFReader(file).fields.items()}


def cut_by_scores(text: str, fields: dict[str, Any]) -> list[int]:
    """The oracle: cut as llama.cpp does for this kind, from the file's own lists and nothing else.

    Of all neighbours that make a token, those are merged whose token has the highest score, the first of equals; what
    is no token in the end goes byte by byte.
    """
    numbers = {token: number for number, token in enumerate(fields["tokenizer.ggml.tokens"])}
    scores = fields["tokenizer.ggml.scores"]
    if fields["tokenizer.ggml.add_space_prefix"] and text:
        text = " " + text
    pieces = list(text.replace(" ", "▁"))
    while True:
        pairs = enumerate(pairwise(pieces))
        makes = [(scores[numbers[left + right]], -at) for at, (left, right) in pairs if left + right in numbers]
        if not makes:
            break
        at = -max(makes)[1]
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
    found: list[int] = []
    for piece in pieces:
        spelt = [piece] if piece in numbers else [f"<0x{byte:02X}>" for byte in piece.encode()]
        found += [numbers[token] for token in spelt]
    return found


@pytest.mark.parametrize(
    ("normalizer", "cut", "begins"),
    [
        (LLAMA_NORMALIZER, None, True),
        (None, METASPACE, True),
        (None, pre_tokenizers.Metaspace("▁", prepend_scheme="never", split=False), False),
        (normalizers.Replace(" ", "▁"), pre_tokenizers.Split(" ", "merged_with_previous"), False),
    ],
    ids=["prepended", "metaspace", "metaspace without a space", "no space"],
)
def test_scores_cut_text_as_pairs_do(
    normalizer: Any, cut: Any, begins: bool, checkpoint: Callable[..., tuple[Any, Path]], tmp_path: Path
) -> None:
    tokenizer = sentencepiece(normalizer=normalizer, cut=cut)
    _, source = checkpoint(tokenizer)
    export_gguf(Checkpoint.open(source), tmp_path / "out" / "model.gguf", kind="Q8_0")
    fields = fields_of(tmp_path / "out" / "model.gguf")
    assert fields["tokenizer.ggml.add_space_prefix"] is begins
    lengths: set[int] = set()
    for text in TEXTS + TRAINING:
        expected = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert cut_by_scores(text, fields) == expected
        lengths.update(len(fields["tokenizer.ggml.tokens"][number]) for number in expected)
    assert max(lengths) > 4


def runs_mixed(merges: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The pairs of runs of spaces behind all others, by the lengths of their parts, as some converters have them."""
    runs = [pair for pair in merges if set("".join(pair)) == {"▁"}]
    runs.sort(key=lambda pair: (len(pair[0]), len(pair[1])), reverse=True)
    assert [len(left + right) for left, right in runs] == [4, 4, 3, 4, 3, 2]
    return [*(pair for pair in merges if pair not in runs), *runs]


def test_runs_of_spaces_may_share_a_score(checkpoint: Callable[..., tuple[Any, Path]], tmp_path: Path) -> None:
    tokenizer = sentencepiece(change=runs_mixed)
    _, source = checkpoint(tokenizer)
    export_gguf(Checkpoint.open(source), tmp_path / "out" / "model.gguf", kind="Q8_0")
    fields = fields_of(tmp_path / "out" / "model.gguf")
    scores = fields["tokenizer.ggml.scores"]
    two, four, three = (scores[fields["tokenizer.ggml.tokens"].index(run)] for run in RUNS)
    assert three == four > two
    for text in (*TEXTS, *(f"a{' ' * length}then" for length in range(1, 15))):
        assert cut_by_scores(text, fields) == tokenizer(text, add_special_tokens=False)["input_ids"]


def runs_cut_otherwise(merges: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Five spaces are two and three by these pairs, and three and two by one score for runs of both lengths."""
    runs = [("▁", "▁▁"), ("▁", "▁"), ("▁▁", "▁"), ("▁▁", "▁▁"), ("▁▁▁", "▁"), ("▁", "▁▁▁")]
    return [*(pair for pair in merges if pair not in runs), *runs]


def test_what_the_file_says(checkpoint: Callable[..., tuple[Any, Path]], tmp_path: Path) -> None:
    tokenizer = sentencepiece()
    _, source = checkpoint(tokenizer)
    export_gguf(Checkpoint.open(source), tmp_path / "out" / "model.gguf", kind="Q8_0")
    fields = fields_of(tmp_path / "out" / "model.gguf")
    tokens, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    scores = fields["tokenizer.ggml.scores"]
    assert fields["tokenizer.ggml.model"] == "llama"
    assert "tokenizer.ggml.merges" not in fields
    assert tokens[:3] == ["<unk>", "<s>", "</s>"]
    assert types[:3] == [2, 3, 3]
    assert set(types[3:259]) == {6}
    assert tokens[259:262] == RUNS
    assert set(types[259:262]) == {1}
    assert scores[:259] == [0.0] * 259
    assert scores[259:264] == [0.0, -1.0, -2.0, -3.0, -4.0]  # in the order of the merges, as Llama's own
    assert tokens[-4:] == ["<think>", *(f"[PAD{len(tokenizer) + number}]" for number in range(3))]
    assert types[-4:] == [4, 5, 5, 5]
    ids = {name: fields[f"tokenizer.ggml.{name}_token_id"] for name in ("bos", "eos", "unknown", "padding")}
    assert ids == {"bos": 1, "eos": 2, "unknown": 0, "padding": 2}
    assert fields["tokenizer.ggml.add_bos_token"] is True
    assert fields["tokenizer.ggml.add_eos_token"] is False


@pytest.mark.parametrize("model_type", ["llama", "mistral"])
def test_transformers_reads_the_same_model_and_tokens(
    model_type: str, checkpoint: Callable[..., tuple[Any, Path]], tmp_path: Path
) -> None:
    tokenizer = sentencepiece()
    model, source = checkpoint(tokenizer, model_type, **({"sliding_window": None} if model_type == "mistral" else {}))
    file = tmp_path / "out" / "model.gguf"
    export_gguf(Checkpoint.open(source), file, kind="F16")
    read: Any = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    for text in TEXTS + TRAINING:
        assert read(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert (read.bos_token_id, read.eos_token_id, read.unk_token_id, read.pad_token_id) == (1, 2, 0, 2)
    import_gguf(file, tmp_path / "back")
    back: Any = load_model(Checkpoint.open(tmp_path / "back"), device=torch.device("cpu"), dtype=torch.float32)
    ids = torch.tensor([tokenizer(TRAINING[0])["input_ids"]])
    with torch.no_grad():
        assert torch.allclose(back(ids).logits, model(ids).logits, atol=5e-3)


def swapped(merges: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """One token is made of one pair early, and of another late."""
    number = next(n for n, pair in enumerate(merges) if "".join(merges[n - 1]) == "".join(pair))
    return [*merges[:number], *merges[number + 1 :], merges[number]]


@pytest.mark.parametrize(
    ("tokenizer", "reason"),
    [
        (lambda: sentencepiece(change=lambda merges: merges[:-1]), "makes no .* of .* and"),
        (lambda: sentencepiece(change=swapped), "earlier of some pairs"),
        (lambda: sentencepiece(change=runs_cut_otherwise), "earlier of some pairs"),
        (lambda: sentencepiece(settings={"ignore_merges": True}), "setting ignore_merges"),
        (lambda: sentencepiece(normalizer=normalizers.NFKC(), cut=METASPACE), "prepares text by NFKC, Metaspace"),
        (lambda: sentencepiece(normalizer=None), "prepares text by nothing"),
        (lambda: sentencepiece(normalizer=None, cut=pre_tokenizers.Metaspace("▁")), "prepares text by Metaspace"),
    ],
    ids=[
        "a pair is missing",
        "pairs apart",
        "runs cut otherwise",
        "whole words",
        "unicode forms",
        "no spaces",
        "cut at spaces",
    ],
)
def test_what_scores_cannot_say_is_refused(
    tokenizer: Callable[[], Any], reason: str, checkpoint: Callable[..., tuple[Any, Path]]
) -> None:
    _, source = checkpoint(tokenizer())
    with pytest.raises(UnsupportedModel, match=reason) as caught:
        refuse_unsupported(Checkpoint.open(source), tokenizer_from=None)
    assert caught.value.errors[0].pointer == "kind"


def test_a_unigram_model_is_refused(checkpoint: Callable[..., tuple[Any, Path]]) -> None:
    words = [("<unk>", 0.0), ("▁", -1.0), ("a", -2.0), ("▁a", -1.5)]
    unigram = Tokenizer(models.Unigram(words, unk_id=0, byte_fallback=False))
    made = PreTrainedTokenizerFast(tokenizer_object=unigram, unk_token="<unk>")  # type: ignore[no-untyped-call]
    _, source = checkpoint(made)
    with pytest.raises(UnsupportedModel, match="of the kind Unigram"):
        refuse_unsupported(Checkpoint.open(source), tokenizer_from=None)
