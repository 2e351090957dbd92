"""From text to ids by a model's own tokenizer, whatever that raises or gives: told of the tokenizer, not as a defect.

Ids are held against the rows of the model's embedding: a token that was added to the tokenizer alone has none.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from app.errors import InvalidInput
from app.shown import shown
from workers.engine.blame import blamed_on


def encode(
    tokenizer: PreTrainedTokenizerBase, text: str, *, pointer: str, offsets: bool = False, special: bool = False
) -> dict[str, Any]:
    """`input_ids` of a text as it is, or with the special tokens around it; `offset_mapping` where that is asked for.

    Raises:
        InvalidInput: the tokenizer broke on it, at `pointer`.
    """
    what, expected = "The model's tokenizer cannot take this text", "text that the tokenizer has tokens for"
    with blamed_on(pointer, what, value=shown(text), expected=expected):
        found = tokenizer(
            text, add_special_tokens=special, return_attention_mask=False, return_offsets_mapping=offsets, verbose=False
        )
        ids = list(found["input_ids"])
        if not all(isinstance(token, int) for token in ids):
            raise ValueError("it has no token for a part of the text, and none that stands for unknown ones")
    return {**found, "input_ids": ids}


def starts_with_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer itself puts a beginning-of-text token at the start of a text."""
    bos = tokenizer.bos_token_id
    return isinstance(bos, int) and encode(tokenizer, "", pointer="/model", special=True)["input_ids"][:1] == [bos]


def refuse_ids_without_row(
    ids: np.ndarray[Any, Any] | list[int], tokenizer: PreTrainedTokenizerBase, rows: int, *, pointer: str, where: str
) -> None:
    """Refuse ids that the embedding has no row for.

    Args:
        rows: of the model's embedding.
        where: what they occur in, in words: "The text words.txt".

    Raises:
        InvalidInput: names the first token, its id and the rows.
    """
    highest = int(np.max(ids)) if len(ids) else -1
    if highest < rows:
        return
    token = tokenizer.convert_ids_to_tokens(highest)
    raise InvalidInput.field(
        pointer,
        f'{where} has the token "{token}" with the id {highest:,}, which the model\'s embedding of {rows:,} rows has '
        "no row for.",
        value=highest,
        expected=f"ids below {rows:,}: a text without this token, or a model whose embedding has a row for it",
    )
