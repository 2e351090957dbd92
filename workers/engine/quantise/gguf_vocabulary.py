"""The tokens of a tokenizer by number, as a GGUF file lists them, and how a tokenizer is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from secateur.contract.errors import InvalidInput, UnsupportedModel

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # token types
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


@dataclass(frozen=True)
class Vocabulary:
    """Every row of the embedding has a token."""

    tokens: list[str]
    types: list[int]


def vocabulary(written: Mapping[str, Any], size: int) -> Vocabulary:
    """Every token by its number, with its type; tokens that the tokenizer lacks are filled in as unused.

    Args:
        written: the tokenizer, as tokenizer.json has it.
        size: rows of the embedding.

    Raises:
        UnsupportedModel: the tokenizer has more tokens than the model.
    """
    model = written["model"]
    tokens = [f"[PAD{number}]" for number in range(size)]
    types = [UNUSED] * size
    added = written.get("added_tokens") or []
    numbered = {**model["vocab"], **{token["content"]: token["id"] for token in added}}
    if max(numbered.values(), default=0) >= size:
        raise refuse(f"The tokenizer has tokens beyond the {size} that the model embeds.")
    for word, number in numbered.items():
        byte = model.get("byte_fallback") and _BYTE.fullmatch(word)
        tokens[number], types[number] = word, BYTE if byte else NORMAL
    for token in added:
        types[token["id"]] = CONTROL if token.get("special") else USER_DEFINED
    unknown = model.get("unk_token")
    if unknown in numbered:
        types[numbered[unknown]] = UNKNOWN
    return Vocabulary(tokens, types)


def steps_of(part: Mapping[str, Any] | None, inner: str) -> list[Mapping[str, Any]]:
    """The steps of a normalizer or pre-tokenizer, which are under `inner` where it is a sequence."""
    if part is None:
        return []
    return list(part[inner]) if part.get("type") == "Sequence" else [part]


def refuse(reason: str) -> InvalidInput:
    """The error for a tokenizer that llama.cpp has no equal of; `reason` is a whole sentence."""
    return UnsupportedModel.field(
        "kind", f"{reason} A GGUF file of it would be read with other tokens.", expected="another kind than gguf"
    )
