"""Adding, listing and deleting data sets.

A data set is added in this order: the whole file lies in the store's staging, every row of it was found good, the store
has it under its own name, the row is committed. What breaks off before leaves nothing that anybody can name, and the
janitor sweeps what a kill left in the store. Content is known by its sha256, so adding again gives what is there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from uuid import UUID

from app.blobs.store import ArtifactStore, dataset_output
from app.db import datasets
from app.db.base import new_id
from app.db.datasets import DatasetPage, NewDataset
from app.db.session import SessionFactory, unit_of_work
from app.db.tables.datasets import Dataset
from app.http.cursor import decode
from app.http.multipart import ReceivedForm
from app.services.dataset_check import check_file
from app.services.work import Work
from app.stored_file import StoredFile
from secateur.contract.datasets import SUFFIXES, DatasetFormat
from secateur.contract.errors import InvalidInput, Unavailable
from secateur.contract.shown import shortened, shown

SETTING = "SECATEUR_MAX_DATASET_BYTES"
MAX_NAME = 200
FIELDS = ("file", "name", "format", "sha256")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True)
class Added:
    """The data set with the content that was sent."""

    dataset: Dataset
    created: bool  # false where it had been there before


def add(factory: SessionFactory, store: ArtifactStore, form: ReceivedForm, *, most_bytes: int) -> Added:
    """Make the received file a data set, unless there is one of the same content.

    Raises:
        InvalidInput: of the form's fields, the checksum, or the first bad row of the file.
        PayloadTooLarge: of a compressed file, what is in it.
    """
    for unknown in sorted(set(form.fields) - set(FIELDS)):
        detail = f"there is no field `{shown(unknown)}` here"
        raise InvalidInput.field(f"/{shortened(unknown)}", detail, expected=f"one of {', '.join(FIELDS)}")
    if form.file is None:
        raise InvalidInput.field("/file", "`file` is required", expected="a file part")
    format = _format(form.fields.get("format"), form.file.name)
    name = _name(form.fields.get("name"), form.file.name)
    _check_sha256(form.fields.get("sha256"), form.file.sha256)
    with unit_of_work(factory) as session:
        known = datasets.by_content(session, form.file.sha256, format)
    if known is not None:
        return Added(known, created=False)
    looked = check_file(form.file.path, format, most_bytes=most_bytes)
    dataset_id = new_id()
    output = dataset_output(dataset_id, form.file.sha256)
    stored = _put(store, form.file.path, output, f"content.{_suffix(format)}")
    if stored.sha256 != form.file.sha256:
        store.delete_folder(output)
        raise Unavailable("the file was changed on this host between its upload and its storing; send it again")
    new = NewDataset(
        dataset_id, name, format, looked.kind, looked.rows, form.file.size, form.file.sha256, key=stored.key
    )
    # Where the answer to the commit is lost, the row may be there and needs its file: the janitor decides about it.
    with unit_of_work(factory) as session:
        added = datasets.insert(session, new)
        existing = None if added else datasets.by_content(session, new.sha256, format)
    if added is not None:
        return Added(added, created=True)
    store.delete_folder(output)  # somebody else was faster with the same content
    assert existing is not None
    return Added(existing, created=False)


def list_datasets(work: Work, *, cursor: str | None, limit: int) -> DatasetPage:
    """A page of data sets, newest first. Raises InvalidInput for a cursor of somebody else's."""
    return datasets.list_page(work.session, after=decode(cursor) if cursor is not None else None, limit=limit)


def delete(work: Work, store: ArtifactStore, dataset_id: UUID) -> None:
    """Delete a data set that no unfinished job uses. Raises NotFound, Conflict."""
    key = datasets.delete(work.session, dataset_id)
    output = key.rpartition("/")[0]
    work.after_commit(f"deleting {output}", lambda: store.delete_folder(output))


def _put(store: ArtifactStore, path: Path, output: str, name: str) -> StoredFile:
    """The file alone in a folder, and that into the store."""
    folder = path.parent / "whole"
    folder.mkdir()
    path.rename(folder / name)
    (stored,) = store.put_folder(folder, output, check=lambda: None)
    return stored


def _suffix(format: DatasetFormat) -> str:
    return "txt" if format is DatasetFormat.TEXT else format.value


def _format(given: str | None, file_name: str | None) -> DatasetFormat:
    expected = "one of " + ", ".join(format.value for format in DatasetFormat)
    if given is not None:
        try:
            return DatasetFormat(given)
        except ValueError:
            detail = f"unknown format {shown(given)!r}"
            raise InvalidInput.field("/format", detail, value=shown(given), expected=expected) from None
    found = SUFFIXES.get(PurePosixPath(file_name or "").suffix.lower())
    if found is None:
        detail = "`format` is required: the file's name does not tell it"
        raise InvalidInput.field(
            "/format", detail, value=shown(file_name), expected=f"{expected}, or a name in {', '.join(SUFFIXES)}"
        )
    return found


def _name(given: str | None, file_name: str | None) -> str:
    if given is None:
        last = re.split(r"[/\\]", file_name or "")[-1]
        return "".join(character for character in last if character.isprintable())[:MAX_NAME].strip() or "upload"
    if not 0 < len(given) <= MAX_NAME or not given.isprintable() or not given.strip():
        detail = f"`name` must be 1 to {MAX_NAME} characters that can be printed"
        raise InvalidInput.field("/name", detail, value=shown(given), expected="a name such as news-2026.jsonl")
    return given


def _check_sha256(given: str | None, found: str) -> None:
    if given is None:
        return
    if not _SHA256.fullmatch(given):
        detail = "`sha256` must be 64 hexadecimal digits"
        raise InvalidInput.field("/sha256", detail, value=shown(given), expected="the file's sha256")
    if given.lower() != found:
        detail = f"what came has the sha256 {found}, which is not what was announced"
        raise InvalidInput.field("/sha256", detail, value=given, expected="the sha256 of the file as it was sent")
