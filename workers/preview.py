"""Rows of a data set as a model would see them, in a process of its own that is started for one question.

The API has neither torch nor a tokenizer. What it wants to show is made here, by what makes examples of rows for a
training, from the model's tokenizer and chat template; no weight is read. The question comes in on the standard input,
as JSON, and the one line of the answer goes out: `{"seen": [{…}, …]}`, one for each row, or `{"problem": {…}}`.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import Any
from uuid import UUID

import torch
from transformers import PreTrainedTokenizerBase

from secateur.contract.datasets import DatasetKind
from secateur.contract.errors import ServiceError, StageFailed
from secateur.contract.options.texts import UploadText
from workers.engine.architectures.config import as_config
from workers.engine.checkpoints.gguf.tokenizer import save_tokenizer
from workers.engine.checkpoints.gguf_import import plan_import
from workers.engine.checkpoints.resolve import open_folder
from workers.engine.recovery.example import Example
from workers.engine.recovery.instruction_data import encoder_of
from workers.engine.runtime import Machine
from workers.engine.text.text_source import TextSource
from workers.engine.text.tokenizing import BoundedEncoder

_ANY_UPLOAD = UploadText(source="upload", id=UUID(int=0))  # where a beginning stands does not depend on which it is


def main() -> int:
    """Answer the question on the standard input."""
    answer = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints is no answer
    asked = json.load(sys.stdin)
    told: dict[str, Any]
    try:
        told = {"seen": seen(**asked)}
    except ServiceError as error:
        told = {"problem": {"detail": error.detail}}
    os.write(answer, json.dumps(told).encode() + b"\n")
    return 0


def seen(model: str, roots: Sequence[str], kind: str, rows: Sequence[Any], characters: int) -> list[dict[str, Any]]:
    """What the model at the real path `model` sees of each row.

    Args:
        kind: of the rows, as uploads have them.
        characters: of each row's text that are told at most; tokens are counted of all of it.

    Raises:
        ServiceError: the model's files cannot be used.
    """
    with ExitStack() as stack:
        texts = _texts_of(Path(model), [Path(root) for root in roots], stack)
        encode = _encoder(texts, DatasetKind(kind), stack)
        return [_seen(encode, texts.tokenizer, row, characters) for row in rows]


def _texts_of(model: Path, roots: Sequence[Path], stack: ExitStack) -> TextSource:
    folder, config = model, None
    if model.is_file():
        plan = plan_import(model)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="secateur-preview-")))
        save_tokenizer(plan.tokenizer, folder)
        config = plan.model.config
    return TextSource(
        checkpoint=folder,
        config=config or as_config(open_folder(folder, [root.resolve() for root in roots]).config),
        fingerprint="",
        load=_no_model,
        machine=Machine(torch.device("cpu"), torch.float32, 1, 0),
        data_roots=(),
        cache=folder,
        seed=0,
    )


def _no_model() -> Any:
    raise StageFailed("A preview loads no model.")


def _encoder(texts: TextSource, kind: DatasetKind, stack: ExitStack) -> Callable[[Any], Example]:
    if kind is not DatasetKind.TEXT:
        return encoder_of(texts, _ANY_UPLOAD, format=kind.value, bos="auto", stack=stack)
    start = texts.beginning(_ANY_UPLOAD, "auto")
    first = [] if start.where == "none" else [start.token]
    encoder = stack.enter_context(BoundedEncoder(texts.tokenizer))

    def encode(row: Any) -> Example:
        ids = first + encoder.ids(row["text"]).tolist()
        return Example(ids, [True] * len(ids))  # all of a plain text is learnt

    return encode


def _seen(
    encode: Callable[[Any], Example], tokenizer: PreTrainedTokenizerBase, row: Any, characters: int
) -> dict[str, Any]:
    try:
        example = encode(row)
    except ValueError as error:  # of this row alone
        return {"problem": str(error)}
    parts, left = [], characters
    for answer, ids in _runs(example):
        text = str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
        if left > 0:
            parts.append({"text": text[:left], "learnt": answer})
        left -= len(text)
    return {"parts": parts, "tokens": len(example.ids), "learnt": sum(example.answer), "cut": left < 0}


def _runs(example: Example) -> Iterator[tuple[bool, list[int]]]:
    """Tokens that follow each other and are all of an answer, or none of them."""
    pairs = zip(example.answer, example.ids, strict=True)
    for answer, run in groupby(pairs, key=lambda pair: pair[0]):
        yield answer, [token for _, token in run]


if __name__ == "__main__":
    raise SystemExit(main())
