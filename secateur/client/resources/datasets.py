"""Uploaded data sets: `client.datasets`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from functools import partial
from pathlib import Path
from uuid import UUID

import httpx

from secateur.client.connection import each, finish
from secateur.client.download import sha256_of
from secateur.client.requests import Requests
from secateur.schemas.datasets import Dataset, DatasetRows
from secateur.schemas.page import Page

CHECKING_SECONDS = 600.0  # until a data set is looked at: every row of an upload, or some through a tokenizer


class AsyncDatasets:
    """Texts and instruction data of the caller's own."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    async def create(self, path: Path, *, name: str | None = None, format: str | None = None) -> Dataset:
        """Upload a file of JSON lines, plain text or Parquet, with its checksum; a job names it by its id.

        The same content again gives the same data set. `format` is told by the name unless given: `jsonl`, `text`
        or `parquet`.

        Raises:
            InvalidRequest: its problem names the first line that cannot be used, or the limit of the size.
        """
        digest = await self._requests.connection.work(partial(sha256_of, path))
        fields = {"name": name, "format": format, "sha256": digest}
        data = {field: value for field, value in fields.items() if value is not None}
        timeout = httpx.Timeout(self._requests.patience, read=CHECKING_SECONDS)
        with path.open("rb") as file:  # which is read from its start again where the request is repeated
            files = {"file": (path.name, file)}
            return await self._requests.model(Dataset, "POST", "/datasets", data=data, files=files, timeout=timeout)

    def list(self, *, page_size: int = 50) -> AsyncGenerator[Dataset]:
        """Data sets, the newest first; pages are fetched as they are needed."""
        return self._requests.pages(Page[Dataset], "/datasets", {"limit": page_size})

    async def retrieve(self, dataset_id: UUID | str) -> Dataset:
        """One data set."""
        return await self._requests.model(Dataset, "GET", f"/datasets/{dataset_id}")

    async def rows(
        self, dataset_id: UUID | str, *, limit: int = 10, characters: int = 2000, model: str | None = None
    ) -> DatasetRows:
        """Its first rows; with a local `model`, also what that sees of each, after its chat template."""
        query = {"limit": limit, "characters": characters, **({} if model is None else {"model": model})}
        timeout = httpx.Timeout(self._requests.patience, read=CHECKING_SECONDS)
        path = f"/datasets/{dataset_id}/rows"
        return await self._requests.model(DatasetRows, "GET", path, params=query, timeout=timeout)

    async def delete(self, dataset_id: UUID | str) -> None:
        """Remove a data set. Raises Conflict while a job that is not over uses it."""
        await self._requests.send("DELETE", f"/datasets/{dataset_id}")


class Datasets:
    """Texts and instruction data of the caller's own."""

    def __init__(self, calls: AsyncDatasets) -> None:
        self._calls = calls

    def create(self, path: Path, *, name: str | None = None, format: str | None = None) -> Dataset:
        """Upload a file of JSON lines, plain text or Parquet, with its checksum; a job names it by its id.

        The same content again gives the same data set. `format` is told by the name unless given: `jsonl`, `text`
        or `parquet`.

        Raises:
            InvalidRequest: its problem names the first line that cannot be used, or the limit of the size.
        """
        return finish(self._calls.create(path, name=name, format=format))

    def list(self, *, page_size: int = 50) -> Iterator[Dataset]:
        """Data sets, the newest first; pages are fetched as they are needed."""
        return each(self._calls.list(page_size=page_size))

    def retrieve(self, dataset_id: UUID | str) -> Dataset:
        """One data set."""
        return finish(self._calls.retrieve(dataset_id))

    def rows(
        self, dataset_id: UUID | str, *, limit: int = 10, characters: int = 2000, model: str | None = None
    ) -> DatasetRows:
        """Its first rows; with a local `model`, also what that sees of each, after its chat template."""
        return finish(self._calls.rows(dataset_id, limit=limit, characters=characters, model=model))

    def delete(self, dataset_id: UUID | str) -> None:
        """Remove a data set. Raises Conflict while a job that is not over uses it."""
        finish(self._calls.delete(dataset_id))
