"""From text to ids by a model's own tokenizer, whatever that raises or gives: told of the tokenizer, not as a defect.

A tokenizer's pattern can look back over all of a text at each of its characters, which is hours for a megabyte: so
whatever a user hands in is encoded in a process that is ended where it takes too long.

Ids are held against the rows of the model's embedding: a token that was added to the tokenizer alone has none.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any, Self

import numpy as np
from transformers import PreTrainedTokenizerBase

from secateur.contract.errors import FieldError, InvalidInput
from secateur.contract.shown import shown
from workers.engine.blame import blamed_on
from workers.engine.bounded_child import BoundedChild, ChildEnded

ENCODE_SECONDS = 30.0  # for any text
CHARACTERS_A_SECOND = 20_000  # and so much longer for a long one; tokenizers in Rust take some millions a second
_IDS, _REFUSED = b"i", b"r"


def encode(
    tokenizer: PreTrainedTokenizerBase, text: str, *, name: str = "text", offsets: bool = False, special: bool = False
) -> dict[str, Any]:
    """`input_ids` of a text as it is, or with the special tokens around it; `offset_mapping` where that is asked for.

    Raises:
        InvalidInput: the tokenizer broke on it; `name` is of the argument that is to blame.
    """
    what, expected = "The model's tokenizer cannot take this text", "text that the tokenizer has tokens for"
    with blamed_on(name, what, value=shown(text), expected=expected):
        found = tokenizer(
            text, add_special_tokens=special, return_attention_mask=False, return_offsets_mapping=offsets, verbose=False
        )
        ids = list(found["input_ids"])
        if not all(isinstance(token, int) for token in ids):
            raise ValueError("it has no token for a part of the text, and none that stands for unknown ones")
    return {**found, "input_ids": ids}


def seconds_for(text: str) -> float:
    """That a tokenizer may take."""
    return ENCODE_SECONDS + len(text) / CHARACTERS_A_SECOND


class BoundedEncoder:
    """Encodes texts as `encode` does, in a process of its own; to be closed."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self._child = BoundedChild(partial(_answered, tokenizer=tokenizer))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.close()

    def ids(self, text: str, *, special: bool = False) -> np.ndarray[Any, Any]:
        """(tokens,) int64, with the tokenizer's special tokens around them if `special`.

        Raises:
            InvalidInput: the tokenizer broke on the text, or takes too long for it.
        """
        return self._encoded(text, offsets=False, special=special)[:, 0]

    def ids_and_offsets(self, text: str) -> np.ndarray[Any, Any]:
        """(tokens, 3) int64: the id, and where in the text it begins and ends.

        Raises:
            InvalidInput: as `ids`.
        """
        return self._encoded(text, offsets=True, special=False)

    def _encoded(self, text: str, *, offsets: bool, special: bool) -> np.ndarray[Any, Any]:
        question = json.dumps([text, offsets, special]).encode()
        try:
            answer = self._child.ask(question, seconds=seconds_for(text))
        except ChildEnded as error:
            raise InvalidInput.field(
                "text",
                f"The model's tokenizer cannot take this text: on {len(text):,} characters it {error}.",
                value=shown(text),
                expected="a model whose tokenizer cuts text in a time that grows with its length",
            ) from None
        if answer[:1] == _REFUSED:
            told = json.loads(answer[1:])
            raise InvalidInput(told["detail"], errors=[FieldError(**field) for field in told["errors"]])
        return np.frombuffer(answer, dtype=np.int64, offset=1).reshape(-1, 3 if offsets else 1)


def _answered(asked: bytes, *, tokenizer: PreTrainedTokenizerBase) -> bytes:
    """In the process that encodes."""
    text, offsets, special = json.loads(asked)
    try:
        found = encode(tokenizer, text, offsets=offsets, special=special)
    except InvalidInput as error:
        told = {"detail": error.detail, "errors": [field.to_dict() for field in error.errors]}
        return _REFUSED + json.dumps(told).encode()
    ids = np.array(found["input_ids"], dtype=np.int64).reshape(-1, 1)
    if offsets:
        ids = np.hstack([ids, np.array(found["offset_mapping"], dtype=np.int64).reshape(-1, 2)])
    return _IDS + ids.tobytes()


def put_first(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The token that the tokenizer itself puts before a text; None where it puts none, or several.

    It is the beginning-of-text token, also where the tokenizer's settings name none or another one.
    """
    bos = tokenizer.bos_token_id
    if isinstance(bos, int) and encode(tokenizer, "", name="tokenizer", special=True)["input_ids"][:1] == [bos]:
        return bos
    before, _ = put_around(tokenizer)
    return before[0] if len(before) == 1 else None


def put_around(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The tokens that the tokenizer itself puts before and behind a text."""
    try:
        plain, whole = (encode(tokenizer, "a", special=special)["input_ids"] for special in (False, True))
    except InvalidInput:  # it has no token for the letter
        return [], []
    size = len(plain)
    at = next((at for at in range(len(whole) - size + 1) if whole[at : at + size] == plain), None)
    return ([], []) if at is None or not plain else (whole[:at], whole[at + size :])


def refuse_ids_without_row(
    ids: np.ndarray[Any, Any] | list[int], tokenizer: PreTrainedTokenizerBase, rows: int, *, where: str
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
    which = "a token" if token is None else f'the token "{token}"'  # a template around a text may give any id
    raise InvalidInput.field(
        "text",
        f"{where} has {which} with the id {highest:,}, which the model's embedding of {rows:,} rows has no row for.",
        value=highest,
        expected=f"ids below {rows:,}: a text without this token, or a model whose embedding has a row for it",
    )
