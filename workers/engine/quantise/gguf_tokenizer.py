"""A checkpoint's tokenizer as keys of a GGUF file, where llama.cpp cuts text in the same way.

llama.cpp has byte-level BPE as in GPT-2, with a name for how text is cut before the merges. What the `tokenizer.json`
says is read and compared with the names that are known to do the same. A tokenizer that would cut text otherwise is
refused, since a model that is fed other tokens is another model; so is sentencepiece's, for which tokenizer.json has no
scores. A job whose model was a GGUF file has its tokenizer copied instead, whatever its kind (`gguf_export.py`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from app.errors import InvalidInput, UnsupportedModel
from workers.engine.calibration import starts_with_bos
from workers.engine.checkpoints.checkpoint import read_json_file
from workers.engine.checkpoints.gguf_file import ARRAY, STRING, encode_value

UINT32, INT32, BOOL = 4, 5, 7  # value types
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED = 1, 2, 3, 4, 5  # token types
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


@dataclass(frozen=True)
class _Vocabulary:
    tokens: list[str]
    types: list[int]


def tokenizer_keys(folder: Path, tokenizer: PreTrainedTokenizerBase, *, vocabulary: int, pointer: str) -> list[bytes]:
    """The encoded keys `tokenizer.…`.

    Args:
        folder: the checkpoint, with its tokenizer.json.
        tokenizer: the same, loaded.
        vocabulary: rows of the embedding; tokens that the tokenizer lacks are filled in as unused.

    Raises:
        UnsupportedModel: llama.cpp would cut text in another way, or cannot be told how; `pointer` names the field.
    """
    if not (folder / FILE).is_file():
        raise _refuse(pointer, f"The model has no {FILE}.")
    written = read_json_file(folder / FILE)
    model = written.get("model") or {}
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        kind = "sentencepiece" if model.get("type") == "BPE" else model.get("type")
        raise _refuse(pointer, f"The model's tokenizer is of the kind {kind}, not byte-level BPE.")
    merges = [pair if isinstance(pair, list) else pair.split(" ", 1) for pair in model.get("merges", [])]
    words = _vocabulary(written, vocabulary, pointer)
    keys = [
        encode_value("tokenizer.ggml.model", STRING, "gpt2"),
        encode_value("tokenizer.ggml.pre", STRING, _cut(written, pointer)),
        encode_value("tokenizer.ggml.merges", ARRAY, [" ".join(pair) for pair in merges], element=STRING),
    ]
    keys.append(encode_value("tokenizer.ggml.tokens", ARRAY, words.tokens, element=STRING))
    keys.append(encode_value("tokenizer.ggml.token_type", ARRAY, words.types, element=INT32))
    for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        number = getattr(tokenizer, f"{name}_token_id")
        if number is not None:
            keys.append(encode_value(f"tokenizer.ggml.{key}_token_id", UINT32, number))
    keys.append(encode_value("tokenizer.ggml.add_bos_token", BOOL, starts_with_bos(tokenizer)))
    keys.append(encode_value("tokenizer.ggml.add_eos_token", BOOL, False))
    template = tokenizer.chat_template
    if isinstance(template, str):
        keys.append(encode_value("tokenizer.chat_template", STRING, template))
    return keys


def _vocabulary(written: dict[str, Any], size: int, pointer: str) -> _Vocabulary:
    """Every token by its number, with its type."""
    model = written["model"]
    tokens = [f"[PAD{number}]" for number in range(size)]
    types = [UNUSED] * size
    added = written.get("added_tokens") or []
    numbered = {**model["vocab"], **{token["content"]: token["id"] for token in added}}
    if max(numbered.values(), default=0) >= size:
        raise _refuse(pointer, f"The tokenizer has tokens beyond the {size} that the model embeds.")
    for word, number in numbered.items():
        tokens[number], types[number] = word, NORMAL
    for token in added:
        types[token["id"]] = CONTROL if token.get("special") else USER_DEFINED
    unknown = model.get("unk_token")
    if unknown in numbered:
        types[numbered[unknown]] = UNKNOWN
    return _Vocabulary(tokens, types)


def _cut(written: dict[str, Any], pointer: str) -> str:
    """llama.cpp's name for how byte-level BPE cuts text first."""
    normalizer = written.get("normalizer")
    steps = _steps(written.get("pre_tokenizer"), "pretokenizers")
    shape = tuple(_shape(step) for step in steps)
    name = _CUTS.get(shape)
    plain = normalizer is None or (name == "qwen2" and normalizer == {"type": "NFC"})
    if name is None or not plain or any(step.get("add_prefix_space") for step in steps):
        kinds = ", ".join(str(step.get("type")) for step in steps) or "nothing"
        raise _refuse(
            pointer, f"The model's tokenizer cuts text by {kinds} in a way that llama.cpp has no name for here."
        )
    return name


def _shape(step: dict[str, Any]) -> tuple[Any, ...]:
    kind = step.get("type")
    if kind == "ByteLevel":
        return kind, bool(step.get("use_regex", True))
    if kind == "Digits":
        return kind, bool(step.get("individual_digits"))
    if kind == "Split" and step.get("behavior") == "Isolated" and not step.get("invert"):
        return kind, (step.get("pattern") or {}).get("Regex")
    return kind, json.dumps(step, sort_keys=True)


def _steps(part: dict[str, Any] | None, inner: str) -> list[dict[str, Any]]:
    if part is None:
        return []
    return list(part[inner]) if part.get("type") == "Sequence" else [part]


def _refuse(pointer: str, reason: str) -> InvalidInput:
    return UnsupportedModel.field(
        pointer, f"{reason} A GGUF file of it would be read with other tokens.", expected="another kind than gguf"
    )
