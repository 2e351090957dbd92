"""Tokenizers out of GGUF files: cut as the file says, whole as the file lists them, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer

from secateur.contract.errors import BadCheckpoint, UnsupportedModel
from tests.fixtures.gguf_models import MERGES, byte_tokenizer, byte_tokens, tiny_model, write_model
from workers.engine.checkpoints.gguf.cuts import CUTS
from workers.engine.checkpoints.gguf_import import import_gguf, plan_import

Read = Callable[..., Any]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """read({"tokenizer.ggml.pre": …}): the tokenizer that an import of these keys leaves, as transformers loads it."""

    def make(keys: dict[str, Any], **settings: Any) -> Any:
        file = write_model(tmp_path / "model.gguf", tiny_model("llama", **settings), tokenizer=keys)
        import_gguf(file, tmp_path / "checkpoint")
        return AutoTokenizer.from_pretrained(tmp_path / "checkpoint")

    return make


def plain(cut: Any) -> Tokenizer:
    """The same vocabulary, under a cut of one's own."""
    vocabulary = {token: number for number, token in enumerate(byte_tokens(300))}
    pairs = [(left, right) for left, right in (merge.split(" ") for merge in MERGES)]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    tokenizer.pre_tokenizer = cut
    return tokenizer


TEXT = "hello 1234, he's 12\n\nFor 123 hers:  two 1"


def test_digits_of_smollm_are_cut_apart(read: Read) -> None:
    found = read(byte_tokenizer(300, pre="smollm"))
    apart = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    assert found(TEXT).input_ids == plain(apart).encode(TEXT).ids
    together = plain(pre_tokenizers.ByteLevel(add_prefix_space=False)).encode(TEXT).ids
    assert len(together) < len(found(TEXT).input_ids), "the text tells the two apart"


@pytest.mark.parametrize("pre", sorted(CUTS))
def test_every_cut_is_kept_by_transformers(pre: str, tmp_path: Path) -> None:
    file = write_model(tmp_path / "model.gguf", tiny_model("llama"), tokenizer=byte_tokenizer(300, pre=pre))
    found: Any = plan_import(file).tokenizer.tokenizer  # which reloads it, and compares
    assert found.decode(found(TEXT, add_special_tokens=False).input_ids) == TEXT


@pytest.mark.parametrize("pre", ["brand-new", "deepseek-v3", "", None])
def test_an_unknown_cut_is_named(pre: str | None, tmp_path: Path) -> None:
    file = write_model(tmp_path / "model.gguf", tiny_model("llama"), tokenizer=byte_tokenizer(300, pre=pre))
    with pytest.raises(UnsupportedModel, match=r"tokenizer\.ggml\.pre") as found:
        plan_import(file)
    assert pre is None or pre in found.value.detail


def test_words_that_are_tokens_are_whole_in_llama3(read: Read) -> None:
    keys = byte_tokenizer(300, pre="llama-bpe", add_bos_token=False)
    tokens = [*keys["tokenizer.ggml.tokens"]]
    tokens[-1] = "Ġwhole"  # which no merges make
    keys |= {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": [*keys["tokenizer.ggml.token_type"][:-1], 1]}
    assert read(keys)(" whole").input_ids == [299]
    assert len(read({**keys, "tokenizer.ggml.pre": "dbrx"})(" whole").input_ids) == 6


@pytest.mark.parametrize(
    ("pre", "flags", "begins", "ends"),
    [
        ("gpt-2", {}, False, False),
        ("gpt-2", {"add_bos_token": True}, True, False),
        ("gpt-2", {"add_bos_token": True, "add_eos_token": True}, True, True),
        ("gpt-2", {"add_eos_token": True}, False, True),
        ("llama-bpe", {}, True, False),  # as llama.cpp has it for this name
        ("llama-bpe", {"add_bos_token": False}, False, False),
    ],
)
def test_tokens_around_a_text(pre: str, flags: dict[str, bool], begins: bool, ends: bool, read: Read) -> None:
    ids = read(byte_tokenizer(300, pre=pre, **flags))("hello").input_ids
    assert (ids[0] == 1, ids[-1] == 2) == (begins, ends)


def test_special_and_user_defined_tokens_are_found_whole(read: Read) -> None:
    keys = byte_tokenizer(300)
    tokens, types = [*keys["tokenizer.ggml.tokens"]], [*keys["tokenizer.ggml.token_type"]]
    tokens[290], types[290] = "<|turn|>", 3
    tokens[291], types[291] = "<think>", 4
    found = read({**keys, "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types})
    assert found("<|turn|>he<think>").input_ids == [290, tokens.index("he"), 291]
    assert found.decode([290, tokens.index("he"), 291], skip_special_tokens=True) == "he<think>"
    assert len(found) == 300


def test_ends_of_a_turn_end_generation(tmp_path: Path) -> None:
    keys = byte_tokenizer(300, eot_token_id=290)
    file = write_model(tmp_path / "model.gguf", tiny_model("llama"), tokenizer=keys)
    plan = plan_import(file)
    assert plan.tokenizer.ends == (2, 290)


def test_chat_templates_by_name(read: Read) -> None:
    keys = byte_tokenizer(300) | {
        "tokenizer.chat_template": "{{ 1 }}",
        "tokenizer.chat_templates": ["tools"],
        "tokenizer.chat_template.tools": "{{ 2 }}",
    }
    assert read(keys).chat_template == {"default": "{{ 1 }}", "tools": "{{ 2 }}"}


def test_ids_that_the_file_lacks_stay_none(read: Read) -> None:
    keys = byte_tokenizer(300)
    for name in ("bos", "unknown"):
        del keys[f"tokenizer.ggml.{name}_token_id"]
    found = read(keys)
    assert (found.bos_token, found.unk_token, found.pad_token) == (None, None, None)
    assert found.eos_token_id == 2


SPACE = "▁"
PIECES = ("<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), SPACE, *"abcdehlo", "he", "ll", "lo")
WORDS = (*PIECES, "hell", "hello", f"{SPACE}he", f"{SPACE}hello", f"{SPACE}{SPACE}", f"{SPACE}{SPACE}{SPACE}")


def sentencepiece(words: tuple[str, ...] = WORDS, scores: list[float] | None = None, **more: Any) -> dict[str, Any]:
    """Keys of a tokenizer as sentencepiece has it: a token's score is minus its place."""
    size = 300
    tokens = [*words, *(f"[PAD{number}]" for number in range(size - len(words)))]
    types = [2, 3, 3, *[6] * 256, *[1] * (len(words) - 259), *[5] * (size - len(words))]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": scores or [float(-max(0, number - 258)) for number in range(size)],
        "tokenizer.ggml.token_type": types,
        **{f"tokenizer.ggml.{key}": value for key, value in more.items()},
    }


def joined(text: str, scores: dict[str, float]) -> list[str]:
    """What sentencepiece does, plainly: it joins the neighbours that make the token of the highest score, leftmost."""
    pieces = list(text)
    while True:
        made = [(scores[a + b], -at) for at, (a, b) in enumerate(pairwise(pieces)) if a + b in scores]
        if not made:
            return pieces
        at = -max(made)[1]
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]


@pytest.mark.parametrize("text", ["hello hallo   ol", "hell  hellolo    he", "a  ab   lolo hehell", " hello"])
def test_sentencepiece_merges_by_score(text: str, read: Read) -> None:
    keys = sentencepiece()
    scores = dict(zip(keys["tokenizer.ggml.tokens"], keys["tokenizer.ggml.scores"], strict=True))
    found = read(keys)
    ids = found(text).input_ids
    assert found.convert_ids_to_tokens(ids) == ["<s>", *joined(SPACE + text.replace(" ", SPACE), scores)]
    assert found.decode(ids, skip_special_tokens=True) == text
    assert found.convert_ids_to_tokens(found("\u00e9").input_ids) == ["<s>", SPACE, "<0xC3>", "<0xA9>"]


def test_sentencepiece_without_a_first_space(read: Read) -> None:
    found = read(sentencepiece(add_space_prefix=False, add_bos_token=False))
    assert found.convert_ids_to_tokens(found("a").input_ids) == ["a"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tokenizer.ggml.model": "bert"}, "'bert'"),
        ({"tokenizer.ggml.model": None}, "no tokenizer"),
        ({"tokenizer.ggml.merges": None}, "merges"),
        ({"tokenizer.ggml.merges": ["h zz"]}, "'h zz'"),
        ({"tokenizer.ggml.tokens": ["a", "a"]}, "'a' stands twice"),
        ({"tokenizer.ggml.tokens": [str(number) for number in range(400)]}, "400 tokens"),
        ({"tokenizer.ggml.token_type": [1]}, "1 types"),
        ({"tokenizer.ggml.bos_token_id": 300}, "bos_token_id' is '300'"),
        ({"tokenizer.ggml.add_sep_token": True}, "add_sep_token"),
        ({"tokenizer.ggml.add_space_prefix": True}, "add_space_prefix"),
        ({"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.bos_token_id": None}, "'bos'"),
        ({"tokenizer.ggml.precompiled_charsmap": [1, 2]}, "precompiled_charsmap"),
        ({"tokenizer.ggml.suppress_tokens": [1, 2]}, "suppress_tokens"),
        ({"tokenizer.ggml.something": 1}, "something"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    keys = {key: value for key, value in {**byte_tokenizer(300), **change}.items() if value is not None}
    file = write_model(tmp_path / "model.gguf", tiny_model("llama"), tokenizer=keys)
    with pytest.raises((BadCheckpoint, UnsupportedModel), match=words):
        plan_import(file)


def test_scores_that_no_list_of_merges_follows(tmp_path: Path) -> None:
    scores = [0.0] * 300  # leftmost first, whatever it makes
    file = write_model(tmp_path / "model.gguf", tiny_model("llama"), tokenizer=sentencepiece(scores=scores))
    with pytest.raises(UnsupportedModel, match="compete"):
        plan_import(file)
