"""How many tokens a vocabulary may keep, and what goes with the others: known from the model's config alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secateur.contract.errors import InvalidInput
from secateur.contract.options.vocabulary import VocabularyPruning
from secateur.contract.spec import CompressionSpec


def check_vocabulary(spec: CompressionSpec, config: Mapping[str, Any]) -> None:
    """Refuse to keep as many tokens as the model of this config embeds, or more.

    Raises:
        InvalidInput: nothing would go.
    """
    rows = config.get("vocab_size")
    if isinstance(spec.pruning, VocabularyPruning) and type(rows) is int:
        check_tokens(spec.pruning.tokens, rows)


def check_tokens(tokens: int, rows: int, *, pointer: str = "/pruning/tokens") -> None:
    """Refuse to keep `tokens` of `rows` if that is all of them. Raises InvalidInput."""
    if tokens >= rows:
        raise InvalidInput.field(
            pointer,
            f"`tokens` keeps {tokens:,} tokens, and the model's vocabulary has {rows:,}",
            value=tokens,
            expected=f"at most {rows - 1:,}",
        )


def smaller(config: Mapping[str, Any], tokens: int) -> dict[str, Any]:
    """The config with so many tokens, as far as sizes follow from it."""
    return {**config, "vocab_size": tokens}
