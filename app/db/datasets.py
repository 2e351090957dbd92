"""Uploaded data sets: one for each content, held while a job is submitted, deleted when no job needs them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Boolean, cast, func, select, text
from sqlalchemy import delete as sql_delete
from sqlalchemy.dialects.postgresql import JSONB, JSONPATH
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import Session

from app.db.arrays import among
from app.db.tables.datasets import Dataset
from app.db.tables.jobs import Job
from secateur.contract.datasets import DatasetFormat, DatasetKind
from secateur.contract.errors import Conflict, NotFound

_NAMED = '$.** ? (@.source == "upload" && @.id == $id)'  # a text of a spec, wherever it stands
_UNFINISHED = text("jobs.state IN ('queued', 'running', 'cancelling')")  # as the index has it


@dataclass(frozen=True)
class NewDataset:
    """A data set as the store has taken it."""

    id: UUID
    name: str
    format: DatasetFormat
    kind: DatasetKind
    rows: int
    size: int  # bytes
    sha256: str
    key: str  # in the store


@dataclass(frozen=True)
class DatasetPage:
    datasets: list[Dataset]  # newest first
    has_more: bool


def insert(session: Session, new: NewDataset) -> Dataset | None:
    """The new data set's row; None if one of the same content and format is there: it is `by_content` then.

    Where another transaction is just adding it, this one waits for the other to end.
    """
    values = {
        "id": new.id,
        "name": new.name,
        "format": new.format,
        "kind": new.kind,
        "rows": new.rows,
        "size": new.size,
        "sha256": new.sha256,
        "key": new.key,
    }
    unknown = pg_insert(Dataset).values(values).on_conflict_do_nothing(index_elements=[Dataset.sha256, Dataset.format])
    if session.execute(unknown.returning(Dataset.id)).scalar_one_or_none() is None:
        return None
    return get(session, new.id)


def by_content(session: Session, sha256: str, format: DatasetFormat) -> Dataset | None:
    """The data set with this content."""
    return session.scalars(select(Dataset).where(Dataset.sha256 == sha256, Dataset.format == format)).one_or_none()


def get(session: Session, dataset_id: UUID) -> Dataset:
    """One data set. Raises NotFound."""
    found = session.get(Dataset, dataset_id)
    if found is None:
        raise NotFound(f"there is no data set {dataset_id}")
    return found


def hold(session: Session, ids: Collection[UUID]) -> dict[UUID, Dataset]:
    """Those of these data sets that there are, by id; none of them can be deleted until the transaction ends."""
    if not ids:
        return {}
    query = (
        select(Dataset).where(among(Dataset.id, ids)).order_by(Dataset.id).with_for_update(read=True, key_share=True)
    )
    return {row.id: row for row in session.scalars(query)}


def find(session: Session, ids: Collection[UUID]) -> dict[UUID, Dataset]:
    """Those of these data sets that there are, by id."""
    if not ids:
        return {}
    return {row.id: row for row in session.scalars(select(Dataset).where(among(Dataset.id, ids)))}


def known(session: Session, ids: Collection[UUID]) -> set[UUID]:
    """Which of these data sets there are."""
    return set(session.scalars(select(Dataset.id).where(among(Dataset.id, ids))))


def list_page(session: Session, *, after: UUID | None = None, limit: int = 20) -> DatasetPage:
    """Data sets, newest first, from behind the data set `after` on: a keyset page, as of jobs."""
    query = select(Dataset).order_by(Dataset.id.desc()).limit(limit + 1)
    if after is not None:
        query = query.where(Dataset.id < after)
    found = list(session.scalars(query))
    return DatasetPage(found[:limit], len(found) > limit)


def delete(session: Session, dataset_id: UUID) -> str:
    """Delete the row of a data set that no unfinished job names; the key of its file, to delete after commit.

    Raises NotFound; Conflict while a job that is not over uses it.
    """
    row = session.scalars(select(Dataset).where(Dataset.id == dataset_id).with_for_update()).one_or_none()
    if row is None:
        raise NotFound(f"there is no data set {dataset_id}")
    # a submission that names it has held the row until its commit, so its job is seen here
    named = func.jsonb_path_exists(
        Job.spec, cast(_NAMED, JSONPATH), cast({"id": str(dataset_id)}, JSONB), type_=Boolean
    )
    user = session.scalars(
        select(Job.id).where(_UNFINISHED, Job.asked_of.is_(None), named).order_by(Job.id).limit(1)
    ).first()
    if user is not None:
        raise Conflict(f"data set {dataset_id} is used by job {user}, which is not over; cancel it or wait for its end")
    session.execute(sql_delete(Dataset).where(Dataset.id == dataset_id))
    session.expunge(row)
    return row.key
