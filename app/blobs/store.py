"""The artifact store: where published files lie, a local folder (`file:`) or a bucket (`s3:`).

Every attempt of a stage publishes under a folder of its own, `stages/STAGE/TOKEN`, named by its fencing token. A
writer that lost its stage can thus overwrite nothing, and what it leaves is an orphan: a folder that no stage has as
its output, which the janitor deletes. Files never change once they are published.

An uploaded data set is a folder too, `datasets/SHA256/ID` with one file in it. It is put there when all of it has come
and was found good, and one that no row names is an orphan like any other.

Locally nothing is copied where it need not be: files are hard-linked out of the stage's scratch when both are on one
file system, and later stages read them in place. A folder is built under another name and renamed when it is whole.
In a bucket an object appears when its upload ends, and nothing refers to it before the stage is committed.
"""

from __future__ import annotations

import hashlib
import mimetypes
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import unquote, urlsplit
from uuid import UUID

from app.blobs.errors import Guarded, s3_filesystem
from app.stored_file import StoredFile
from secateur.contract.errors import NotFound, StageFailed
from secateur.whole_files import write_whole

CHUNK = 1 << 20
ROOT = "stages"
DATASETS = "datasets"
OWNER = "owner"  # the file that says to which database the store belongs
_CONTENT_TYPES = {
    ".json": "application/json",
    ".md": "text/markdown; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".xml": "application/xml",
    ".safetensors": "application/octet-stream",
    ".gguf": "application/octet-stream",
    ".jinja": "text/plain; charset=utf-8",
}

Check = Callable[[], None]  # called often while files are written; raises to give up


class ArtifactStore(Protocol):
    """What API, supervisor and janitor need of a store. Keys are relative, with forward slashes."""

    def put_folder(self, folder: Path, output: str, *, check: Check) -> list[StoredFile]:
        """Publish every file under `folder` as `output`/PATH. OSError if it cannot; then nothing is left behind."""

    def chunks(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The bytes of a file, from `start` on, at most `length`. Raises NotFound before the first chunk."""

    def folder(self, output: str, files: Sequence[StoredFile], *, cache: Path, check: Check) -> Path:
        """A local folder with these files of `output`: in place, or downloaded into `cache` and checked."""

    def attempts(self) -> Iterator[tuple[UUID, int, str]]:
        """All folders that attempts have put: stage, token, output."""

    def datasets(self) -> Iterator[tuple[UUID, str]]:
        """All data sets that were put: id, output."""

    def staging(self) -> AbstractContextManager[Path]:
        """An empty folder for files that are on their way in; it is gone afterwards, with all that is in it."""

    def owner(self) -> str | None:
        """The id of the database to which the store belongs, None while none has taken it."""

    def set_owner(self, owner: str) -> None:
        """Mark the store as that of the database with this id."""

    def delete_folder(self, output: str) -> None:
        """Delete everything under `output`; nothing happens if there is nothing."""

    def sweep(self, *, older_than: float) -> None:
        """Delete what killed writers left half-made and nobody has touched for `older_than` seconds."""

    def ready(self) -> None:
        """Raises OSError if the store cannot be used."""


def output_of(stage_id: UUID, token: int) -> str:
    """The folder of one attempt at a stage."""
    return f"{ROOT}/{stage_id}/{token}"


def dataset_output(dataset_id: UUID, sha256: str) -> str:
    """The folder of an uploaded data set."""
    return f"{DATASETS}/{sha256}/{dataset_id}"


def read_owner(folder: Path) -> str | None:
    """What the mark in a folder says, None where there is no mark."""
    try:
        return (folder / OWNER).read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return None


def set_owner(folder: Path, owner: str) -> None:
    """Put the mark into a folder, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / OWNER, f"{owner}\n", shared=True, durable=True)


def open_store(url: str) -> ArtifactStore:
    """The store at `file:///folder` or `s3://bucket/prefix`. ValueError for another URL."""
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"}:
        return LocalStore(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        return RemoteStore(s3_filesystem(), f"{parts.netloc}{parts.path.rstrip('/')}")
    raise ValueError(f"SECATEUR_ARTIFACTS_URL is {url!r}; expected file:///folder or s3://bucket/prefix")


class LocalStore:
    """A folder of this machine, or one that all machines mount."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put_folder(self, folder: Path, output: str, *, check: Check) -> list[StoredFile]:
        partial = self._root / ".partial" / uuid.uuid4().hex
        final = self._root / output
        try:
            partial.mkdir(parents=True)
            stored = []
            for path in _files(folder):
                target = partial / path
                target.parent.mkdir(parents=True, exist_ok=True)
                size, sha256 = _link_or_copy(folder / path, target, check)
                stored.append(_stored(path, output, size, sha256))
            final.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(final, ignore_errors=True)  # of this same attempt, before its commit
            partial.rename(final)
            _sync_folder(final.parent)
            return stored
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise

    def chunks(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        path = self._path(key)
        if not path.is_file():
            raise NotFound(f"the store has no file {key}")
        return _read(lambda: path.open("rb"), start, length)

    def folder(self, output: str, files: Sequence[StoredFile], *, cache: Path, check: Check) -> Path:
        path = self._path(output)
        path.mkdir(parents=True, exist_ok=True)  # a stage may have published nothing
        return path

    def attempts(self) -> Iterator[tuple[UUID, int, str]]:
        for stage in sorted((self._root / ROOT).glob("*")):
            for attempt in sorted(stage.glob("*")):
                yield from _attempt(stage.name, attempt.name)

    def datasets(self) -> Iterator[tuple[UUID, str]]:
        for content in sorted((self._root / DATASETS).glob("*")):
            for dataset in sorted(content.glob("*")):
                yield from _dataset(content.name, dataset.name)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        # beside the files to be, so that putting one is a link and no copy; what a kill leaves, `sweep` deletes
        folder = self._root / ".partial" / f"upload-{uuid.uuid4().hex}"
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def owner(self) -> str | None:
        return read_owner(self._root)

    def set_owner(self, owner: str) -> None:
        set_owner(self._root, owner)

    def delete_folder(self, output: str) -> None:
        path = self._path(output)
        shutil.rmtree(path, ignore_errors=True)
        if path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()

    def sweep(self, *, older_than: float) -> None:
        for partial in (self._root / ".partial").glob("*"):
            if partial.stat().st_mtime < time.time() - older_than:
                shutil.rmtree(partial, ignore_errors=True)

    def ready(self) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        probe = self._root / f".probe-{uuid.uuid4().hex}"
        probe.write_bytes(b"")
        probe.unlink()

    def _path(self, key: str) -> Path:
        path = (self._root / key).resolve()
        if not path.is_relative_to(self._root.resolve()):
            raise NotFound(f"the store has no file {key}")
        return path


class RemoteStore:
    """A bucket, by way of fsspec. With fsspec's memory file system it is the fake for tests, see `memory_store`."""

    def __init__(self, filesystem: Any, root: str) -> None:
        self._fs = Guarded(filesystem)
        self._root = root

    def put_folder(self, folder: Path, output: str, *, check: Check) -> list[StoredFile]:
        try:
            stored = []
            for path in _files(folder):
                with (folder / path).open("rb") as source, self._fs.open(f"{self._root}/{output}/{path}", "wb") as sink:
                    size, sha256 = _hash(source, check, sink)
                stored.append(_stored(path, output, size, sha256))
            return stored
        except BaseException:
            with suppress(OSError):  # what a store that fails keeps is an orphan, and the janitor's
                self.delete_folder(output)
            raise

    def chunks(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        path = f"{self._root}/{key}"
        if not self._fs.isfile(path):
            raise NotFound(f"the store has no file {key}")
        return _read(lambda: self._fs.open(path, "rb", cache_type="readahead"), start, length)

    def folder(self, output: str, files: Sequence[StoredFile], *, cache: Path, check: Check) -> Path:
        final = cache / output
        if final.is_dir():
            os.utime(final)  # the janitor deletes what was not used for long
            return final
        final.parent.mkdir(parents=True, exist_ok=True)
        partial = final.with_name(f"{final.name}.partial-{uuid.uuid4().hex}")
        try:
            partial.mkdir()
            for file in files:
                target = partial / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                with self._fs.open(f"{self._root}/{file.key}", "rb") as source, target.open("wb") as sink:
                    _, sha256 = _hash(source, check, sink)
                if sha256 != file.sha256:
                    raise StageFailed(f"{file.key} came from the store with another checksum than it was put with.")
            try:
                partial.rename(final)
            except OSError:
                if not final.is_dir():  # else another stage was faster
                    raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return final

    def attempts(self) -> Iterator[tuple[UUID, int, str]]:
        for stage in self._names(ROOT):
            for attempt in self._names(f"{ROOT}/{stage}"):
                yield from _attempt(stage, attempt)

    def datasets(self) -> Iterator[tuple[UUID, str]]:
        for content in self._names(DATASETS):
            for dataset in self._names(f"{DATASETS}/{content}"):
                yield from _dataset(content, dataset)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="secateur-upload-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)

    def owner(self) -> str | None:
        self._fs.invalidate_cache()
        path = f"{self._root}/{OWNER}"
        return self._fs.cat_file(path).decode(errors="replace").strip() if self._fs.exists(path) else None

    def set_owner(self, owner: str) -> None:
        self._fs.pipe_file(f"{self._root}/{OWNER}", f"{owner}\n".encode())

    def delete_folder(self, output: str) -> None:
        path = f"{self._root}/{output}"
        if self._fs.exists(path):
            self._fs.rm(path, recursive=True)

    def sweep(self, *, older_than: float) -> None:
        """Nothing: uploads that were cut off are no objects, and buckets have a rule that ends them."""

    def ready(self) -> None:
        self._fs.invalidate_cache()
        self._fs.exists(f"{self._root}/{ROOT}")

    def _names(self, prefix: str) -> list[str]:
        path = f"{self._root}/{prefix}"
        self._fs.invalidate_cache()
        if not self._fs.exists(path):
            return []
        return sorted(name.rstrip("/").rsplit("/", 1)[-1] for name in self._fs.ls(path, detail=False))


def memory_store() -> RemoteStore:
    """The fake: a store in this process's memory, empty, with all that a bucket does."""
    import fsspec

    return RemoteStore(fsspec.filesystem("memory"), f"/{uuid.uuid4().hex}")


def _files(folder: Path) -> list[str]:
    """The plain files under `folder`, relative, sorted. StageFailed for anything else but folders."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise StageFailed(f"{path.name} in the stage's output is not a plain file; only those are published.")
        if path.is_file():
            found.append(path.relative_to(folder).as_posix())
    return found


def _link_or_copy(source: Path, target: Path, check: Check) -> tuple[int, str]:
    """Size and sha256 of the file that is at `target` afterwards, and safely on disk."""
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        with source.open("rb") as reader, target.open("wb") as writer:
            measured = _hash(reader, check, writer)
            writer.flush()
            os.fsync(writer.fileno())
        return measured
    with target.open("rb") as reader:
        measured = _hash(reader, check, None)
        os.fsync(reader.fileno())
    return measured


def _hash(source: BinaryIO, check: Check, sink: BinaryIO | None) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(CHUNK):
        check()
        digest.update(chunk)
        size += len(chunk)
        if sink is not None:
            sink.write(chunk)
    return size, digest.hexdigest()


def _read(opened: Callable[[], BinaryIO], start: int, length: int | None) -> Iterator[bytes]:
    with opened() as file:
        file.seek(start)
        left = length
        while left is None or left > 0:
            chunk = file.read(CHUNK if left is None else min(CHUNK, left))
            if not chunk:
                return
            if left is not None:
                left -= len(chunk)
            yield chunk


def _stored(path: str, output: str, size: int, sha256: str) -> StoredFile:
    guessed = _CONTENT_TYPES.get(Path(path).suffix) or mimetypes.guess_type(path)[0] or "application/octet-stream"
    return StoredFile(path, f"{output}/{path}", size, sha256, guessed)


def _attempt(stage: str, token: str) -> Iterator[tuple[UUID, int, str]]:
    """What the two names say; nothing for names that this service did not make."""
    try:
        stage_id, number = UUID(stage), int(token)
    except ValueError:
        return
    yield stage_id, number, output_of(stage_id, number)


def _dataset(sha256: str, name: str) -> Iterator[tuple[UUID, str]]:
    """As `_attempt`."""
    try:
        dataset_id = UUID(name)
    except ValueError:
        return
    yield dataset_id, dataset_output(dataset_id, sha256)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
