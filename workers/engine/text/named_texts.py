"""Text sets by name (`secateur/contract/named_texts.py`): files of the hub, at one commit, kept on this machine.

A file whose commit is pinned is asked for once: afterwards no hub is needed.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError

from secateur.contract.errors import ServiceError, StageFailed, Unavailable
from secateur.contract.named_texts import NAMED_TEXTS, NamedSet, Split, split_of
from secateur.contract.options.texts import NamedText
from workers.engine.hub_errors import CANNOT_CONNECT
from workers.engine.text.uploads import unpacked_size
from workers.machine.hub_token import fetching

_TIMEOUT_S = 30.0
_BATCH = 1024  # rows of a Parquet file in memory at a time


class NamedSource:
    """One part of a named text set, as a file on this machine."""

    def __init__(self, text: NamedText, *, measuring: bool, cache: Path) -> None:
        """Fetch the file if it is not there.

        Raises:
            Unavailable: the hub does not answer, or does not have it any more.
        """
        self.set: NamedSet = NAMED_TEXTS[text.name]
        self.split: Split = split_of(text.name, text.split, measuring=measuring)
        self.file = self.set.files[self.split]
        try:
            self.commit = self.set.revision or _commit(self.set)
            self.path = _fetch(self.set, self.file, self.commit, cache / "hub")
        except ServiceError:
            raise
        except Exception as error:
            raise _hub_error(error, self.set) from error

    @property
    def description(self) -> str:
        """What a report says of it."""
        return f"{self.set.title} {self.split} ({self.set.id} at {self.commit[:12]})"

    @property
    def size(self) -> int:
        """Bytes of the file, about, as it is before it is packed."""
        if self.file.endswith(".parquet"):
            from pyarrow import parquet

            return unpacked_size(parquet.read_metadata(self.path))
        with self.path.open("rb") as packed:
            packed.seek(-4, os.SEEK_END)
            return int.from_bytes(packed.read(4), "little")  # of what a file of gzip ends with

    def documents(self) -> Iterator[str]:
        """The documents, in their order.

        Raises:
            StageFailed: the file is not what it should be.
        """
        rows = _parquet(self.path, self.set.column) if self.file.endswith(".parquet") else _json(self.path, self.set)
        try:
            yield from islice(rows, self.set.documents.get(self.split))
        except (OSError, EOFError, ValueError, KeyError) as error:  # pyarrow's errors are ValueErrors and OSErrors
            detail = f"{self.set.title} cannot be read from {self.file} of {self.set.id} at {self.commit[:12]}"
            raise StageFailed(f"{detail} ({type(error).__name__}).") from error


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


def _commit(named: NamedSet) -> str:
    with fetching():
        found = HfApi(endpoint=_endpoint()).dataset_info(named.id, timeout=_TIMEOUT_S).sha
    if found is None:
        raise Unavailable(f"The hub did not say which commit {named.id} is at; try again later.")
    return found


def _fetch(named: NamedSet, file: str, commit: str, cache: Path) -> Path:
    with fetching():
        found = hf_hub_download(
            named.id, file, repo_type="dataset", revision=commit, cache_dir=cache, endpoint=_endpoint()
        )
    return Path(found)


def _hub_error(error: Exception, named: NamedSet) -> Unavailable:
    host = httpx2.URL(_endpoint() or HfApi().endpoint).host
    instead = 'upload the text and name it by "source": "upload", or try again later'
    if isinstance(error, CANNOT_CONNECT):
        return Unavailable(
            f"The hub at {host} cannot be reached for {named.title} ({type(error).__name__}); {instead}."
        )
    if isinstance(error, HfHubHTTPError):  # not found and gated too: the set is this service's choice, not the user's
        status = error.response.status_code
        return Unavailable(f"The hub at {host} answered {status} for {named.title} ({named.id}); {instead}.")
    return Unavailable(f"{named.title} could not be fetched from {host} ({type(error).__name__}); {instead}.")


def _parquet(path: Path, column: str) -> Iterator[str]:
    from pyarrow import parquet

    with parquet.ParquetFile(path, memory_map=True) as table:
        for batch in table.iter_batches(_BATCH, columns=[column], use_threads=False):
            yield from batch.column(0).to_pylist()


def _json(path: Path, named: NamedSet) -> Iterator[str]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)[named.column]
