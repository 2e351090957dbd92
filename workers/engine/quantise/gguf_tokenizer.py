"""A checkpoint's tokenizer as keys of a GGUF file, where llama.cpp cuts text in the same way.

llama.cpp has byte-level BPE as in GPT-2, with a name for how text is cut before the merges, and BPE as in sentencepiece
(`gguf_sentencepiece.py`). What the `tokenizer.json` says is read and compared with what is known to do the same. A
tokenizer that would cut text otherwise is refused, since a model that is fed other tokens is another model. A job whose
model was a GGUF file has its tokenizer copied instead, whatever its kind (`gguf_export.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from workers.engine.checkpoints.checkpoint import read_json_file
from workers.engine.checkpoints.gguf_file import ARRAY, STRING, encode_value
from workers.engine.quantise.gguf_sentencepiece import sentencepiece_keys
from workers.engine.quantise.gguf_vocabulary import Vocabulary, refuse, steps_of
from workers.engine.quantise.gguf_vocabulary import vocabulary as vocabulary_of
from workers.engine.text.tokenizer_json import merges_of
from workers.engine.text.tokenizing import put_around, put_first

UINT32, INT32, BOOL = 4, 5, 7  # value types
FILE = "tokenizer.json"

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
# How the text is cut before the merges, as tokenizer.json has it → the name by which llama.cpp does the same.
_CUTS: dict[tuple[Any, ...], str] = {
    (("ByteLevel", True),): "gpt-2",
    (("Digits", True), ("ByteLevel", True)): "smollm",
    (("Split", _LLAMA3), ("ByteLevel", False)): "llama-bpe",
    (("Split", _QWEN2), ("ByteLevel", False)): "qwen2",
}


def tokenizer_keys(folder: Path, tokenizer: PreTrainedTokenizerBase, *, vocabulary: int) -> list[bytes]:
    """The encoded keys `tokenizer.…`.

    Args:
        folder: the checkpoint.
        tokenizer: the same, loaded.
        vocabulary: rows of the embedding; tokens that the tokenizer lacks are filled in as unused.

    Raises:
        UnsupportedModel: llama.cpp would cut text in another way, or cannot be told how.
    """
    written = _written(folder, tokenizer)
    kind = (written.get("model") or {}).get("type")
    if kind != "BPE":
        raise refuse(f"The model's tokenizer is of the kind {kind}, not byte-pair encoding.")
    words = vocabulary_of(written, vocabulary)
    make = sentencepiece_keys if written["model"].get("byte_fallback") else _byte_level_keys
    keys = list(make(written, words))
    before, behind = put_around(tokenizer)
    if len(before) > 1 or behind not in ([], [tokenizer.eos_token_id]):
        around = " ".join([*tokenizer.convert_ids_to_tokens(before), "…", *tokenizer.convert_ids_to_tokens(behind)])
        raise refuse(f"The model's tokenizer puts {around} around a text, which a GGUF file cannot say.")
    first = put_first(tokenizer)
    numbers = {
        "bos": tokenizer.bos_token_id if first is None else first,
        "eos": tokenizer.eos_token_id,
        "unknown": tokenizer.unk_token_id,
        "padding": tokenizer.pad_token_id,
    }
    for key, number in numbers.items():
        if number is not None:
            keys.append(encode_value(f"tokenizer.ggml.{key}_token_id", UINT32, number))
    keys.append(encode_value("tokenizer.ggml.add_bos_token", BOOL, first is not None))
    keys.append(encode_value("tokenizer.ggml.add_eos_token", BOOL, behind != []))
    template = tokenizer.chat_template
    if isinstance(template, str):
        keys.append(encode_value("tokenizer.chat_template", STRING, template))
    return keys


def _written(folder: Path, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The tokenizer as tokenizer.json has it, or would have it where it came in another file."""
    if (folder / FILE).is_file():
        return read_json_file(folder / FILE)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise refuse(f"The model has no {FILE}, and none can be made of its tokenizer.")
    return dict(json.loads(backend.to_str()))


def _byte_level_keys(written: Mapping[str, Any], words: Vocabulary) -> Iterator[bytes]:
    """Tokens, their types, merges, and how text is cut before them."""
    yield encode_value("tokenizer.ggml.model", STRING, "gpt2")
    yield encode_value("tokenizer.ggml.pre", STRING, _cut(written))
    yield encode_value("tokenizer.ggml.merges", ARRAY, [" ".join(pair) for pair in merges_of(written)], element=STRING)
    yield encode_value("tokenizer.ggml.tokens", ARRAY, words.tokens, element=STRING)
    yield encode_value("tokenizer.ggml.token_type", ARRAY, words.types, element=INT32)


def _cut(written: Mapping[str, Any]) -> str:
    """llama.cpp's name for how byte-level BPE cuts text first."""
    normalizer = written.get("normalizer")
    steps = steps_of(written.get("pre_tokenizer"), "pretokenizers")
    shape = tuple(_shape(step) for step in steps)
    name = _CUTS.get(shape)
    plain = normalizer is None or (name == "qwen2" and normalizer == {"type": "NFC"})
    if name is None or not plain or any(step.get("add_prefix_space") for step in steps):
        kinds = ", ".join(str(step.get("type")) for step in steps) or "nothing"
        raise refuse(f"The model's tokenizer cuts text by {kinds} in a way that llama.cpp has no name for here.")
    return name


def _shape(step: Mapping[str, Any]) -> tuple[Any, ...]:
    kind = step.get("type")
    if kind == "ByteLevel":
        return kind, bool(step.get("use_regex", True))
    if kind == "Digits":
        return kind, bool(step.get("individual_digits"))
    if kind == "Split" and step.get("behavior") == "Isolated" and not step.get("invert"):
        return kind, (step.get("pattern") or {}).get("Regex")
    return kind, json.dumps(step, sort_keys=True)
