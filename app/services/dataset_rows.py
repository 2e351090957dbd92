"""The first rows of a data set, and what a model sees of them: for people, before a job is made of it.

No more than the file's beginning is read, and what is long is cut, so a preview costs the same of any data set. Of a
Parquet file, whose first rows are found by what stands at its end, a store in a bucket hands out the whole.

How a model sees a row, its own tokenizer and chat template say. The API has no such library, so a process that has
answers (`workers/preview.py`), on a host where a worker is installed; it may take so long, and few run at once.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any
from uuid import UUID

from app.blobs.store import ArtifactStore
from app.db import datasets
from app.db.session import SessionFactory, unit_of_work
from app.db.tables.datasets import Dataset
from app.services.dataset_check import first_of_table, within
from app.services.local_files import inspect_model
from app.settings import Settings
from app.stored_file import StoredFile
from secateur import masking
from secateur.contract.datasets import FIELDS, DatasetFormat, DatasetKind
from secateur.contract.errors import FieldError, InvalidInput, Unavailable
from secateur.foreign_files.json_rows import BadRow, is_array, json_rows
from secateur.schemas.datasets import DatasetRow, DatasetRows, SeenRow

HEAD_BYTES = 1 << 20  # of a file, and of the rows of a table, that are read
PARAMETER = "query model"
SECONDS = 60  # of the processor, for the process that shows what a model sees; a large GGUF vocabulary takes twelve
CLOCK_SECONDS = 300.0  # and by the clock, on a busy host too
WAIT_SECONDS = 20.0  # for the turn of such a process
DATA_BYTES = 4 << 30  # that it may write to
_ROOT = Path(__file__).resolve().parents[2]
_START = (
    "import sys, resource as limits; sys.path.insert(0, sys.argv[1]); "
    f"limits.setrlimit(limits.RLIMIT_DATA, ({DATA_BYTES}, {DATA_BYTES})); "
    f"limits.setrlimit(limits.RLIMIT_CPU, ({SECONDS}, {SECONDS})); "
    "from workers.preview import main; sys.exit(main())"
)
_turns = BoundedSemaphore(2)


@dataclass(frozen=True)
class Asked:
    """What of a data set is to be shown."""

    count: int  # rows, at most
    characters: int  # of each row, at most
    model: str | None = None  # a local one, through whose tokenizer rows are to be seen


def preview(
    factory: SessionFactory, store: ArtifactStore, settings: Settings, dataset_id: UUID, asked: Asked
) -> DatasetRows:
    """The first rows of a data set.

    Raises:
        NotFound: there is no such data set.
        InvalidInput: of the model.
        Unavailable: the store does not answer, or too many ask at once.
    """
    with unit_of_work(factory) as session:
        dataset = datasets.get(session, dataset_id)
    rows = list(_first_rows(dataset, store, asked, most_bytes=settings.max_dataset_bytes))
    whole = [row.fields for row in rows if row.fields]
    seen = iter(_seen(asked.model, dataset.kind, whole, settings, asked.characters) if asked.model and whole else [])
    shown = []
    for row in rows:
        fields, is_cut = _cut(row.fields, asked.characters)
        sees = SeenRow.model_validate(next(seen)) if asked.model and row.fields else None
        shown.append(DatasetRow(number=row.number, fields=fields, cut=is_cut or row.goes_on, seen=sees))
    return DatasetRows(data=shown, model=asked.model)


@dataclass(frozen=True)
class _Row:
    number: int
    fields: dict[str, Any]  # those that its kind has; none of a row that is longer than is read
    goes_on: bool = False  # beyond what was read of it


def _first_rows(dataset: Dataset, store: ArtifactStore, asked: Asked, *, most_bytes: int) -> Iterator[_Row]:
    if dataset.format is DatasetFormat.TEXT:  # which is one row, however long
        head = _head(dataset, store)
        text = head.decode("utf-8-sig", errors="ignore")  # it may end within a character
        goes_on = len(text) > asked.characters or dataset.size > len(head)
        yield _Row(1, {"text": text[: asked.characters]}, goes_on)
        return
    names = FIELDS[dataset.kind]
    for number, row in _rows(dataset, store, asked, most_bytes=most_bytes):
        fields = {} if row is None else {name: row[name] for name in names if row.get(name) is not None}
        yield _Row(number, fields, goes_on=row is None)


def _head(dataset: Dataset, store: ArtifactStore) -> bytes:
    return b"".join(store.chunks(dataset.key, length=HEAD_BYTES))


def _rows(dataset: Dataset, store: ArtifactStore, asked: Asked, *, most_bytes: int) -> Iterator[tuple[int, Any]]:
    if dataset.format is DatasetFormat.PARQUET:
        with store.staging() as folder:
            output, _, name = dataset.key.rpartition("/")
            file = StoredFile(name, dataset.key, dataset.size, dataset.sha256, "")
            held = store.folder(output, [file], cache=folder, check=lambda: None)
            yield from first_of_table(held / name, most_bytes=most_bytes, count=asked.count, room=HEAD_BYTES)
        return
    head = _head(dataset, store)
    yield from within(_of_json(head, is_whole=len(head) == dataset.size), count=asked.count, room=HEAD_BYTES)


def _of_json(head: bytes, *, is_whole: bool) -> Iterator[tuple[int, Any]]:
    """The rows that are whole in a file's beginning, and None for the one that is not."""
    file = io.BytesIO(head)
    number = 0
    try:
        stop = None if is_whole or is_array(file) else head.rfind(b"\n") + 1
        for number, row in json_rows(file, 0, stop):
            yield number, row
    except BadRow:  # every row was found good, so the file goes on where this is
        if is_whole:
            raise
    if not is_whole:
        yield number + 1, None


def _cut(value: Any, room: int) -> tuple[Any, bool]:
    """The value with texts of `room` characters in all, and whether something was left out."""
    left = room

    def taken(value: Any) -> Any:
        nonlocal left
        if isinstance(value, str):
            text, left = value[: max(0, left)], left - len(value)
            return text
        if isinstance(value, dict):
            return {str(name): taken(held) for name, held in value.items()}
        if isinstance(value, list):
            found = []
            for held in value:
                if left < 0:
                    break
                left -= 1  # a list of numbers is long too
                found.append(taken(held))
            return found
        return value

    found = taken(value)
    return found, left < 0


def _seen(
    model: str, kind: DatasetKind, rows: Sequence[Any], settings: Settings, characters: int
) -> list[dict[str, Any]]:
    """What the model sees of each row."""
    if not settings.check_local:
        raise _refused(
            "this host does not see the workers' models (SECATEUR_CHECK_LOCAL)", model, "no model, or another host"
        )
    try:
        found = inspect_model(model, settings.model_roots, pointer="")
    except InvalidInput as error:
        error.errors = [_of_query(field) for field in error.errors]
        raise
    if any(find_spec(name) is None for name in ("torch", "transformers")):
        raise _refused("this host has no tokenizers, which come with a worker", model, "no model")
    question = {
        "model": str(found.path),
        "roots": [str(root) for root in settings.model_roots],
        "kind": kind.value,
        "rows": list(rows),
        "characters": characters,
    }
    answer = _answered(json.dumps(question, default=str), model)
    if "problem" in answer:
        detail = answer["problem"]["detail"]
        raise _refused(detail, model, "a model whose tokenizer reads rows of this kind")
    return list(answer["seen"])


def _answered(question: str, model: str) -> dict[str, Any]:
    if not _turns.acquire(timeout=WAIT_SECONDS):
        raise Unavailable("other previews are being made just now; ask again in a moment")
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _START, str(_ROOT)],
            input=question,
            env=masking.without_secrets(os.environ),
            capture_output=True,
            text=True,
            timeout=CLOCK_SECONDS,
            check=False,
        )
        return dict(json.loads(done.stdout))
    except OSError as error:
        raise Unavailable(f"no process could be started to read the model's tokenizer: {error.strerror}") from error
    except (ValueError, subprocess.TimeoutExpired):
        raise _refused("the model's tokenizer cannot be read: it broke, or took too long", model, "another") from None
    finally:
        _turns.release()


def _refused(detail: str, model: str, expected: str) -> InvalidInput:
    return InvalidInput(detail, errors=[FieldError("", detail, model, expected, PARAMETER)])


def _of_query(field: FieldError) -> FieldError:
    return FieldError("", field.detail, field.value, field.expected, PARAMETER)
