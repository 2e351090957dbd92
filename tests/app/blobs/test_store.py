"""The artifact store, local and remote: the same promises for both."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from uuid import uuid4

import pytest

from app.blobs.store import ArtifactStore, LocalStore, dataset_output, memory_store, open_store, output_of
from secateur.contract.errors import NotFound, StageFailed

FILES = {
    "pruned.json": b'{"kind": "depth"}',
    "checkpoint/config.json": b"{}",
    "checkpoint/model.safetensors": os.urandom(3_000_000),
    "empty.txt": b"",
}


def never() -> None:
    """A check that never gives up."""


@pytest.fixture(params=["local", "remote"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    return LocalStore(tmp_path / "store") if request.param == "local" else memory_store()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_what_is_put_can_be_read(store: ArtifactStore, out: Path) -> None:
    output = output_of(uuid4(), 1)
    stored = {file.path: file for file in store.put_folder(out, output, check=never)}
    assert set(stored) == set(FILES)
    for name, content in FILES.items():
        file = stored[name]
        assert (file.size, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert b"".join(store.chunks(file.key)) == content
        assert (out / name).read_bytes() == content  # the stage's own files stay
    assert stored["checkpoint/config.json"].content_type == "application/json"
    assert stored["checkpoint/model.safetensors"].content_type == "application/octet-stream"


def test_data_sets_are_folders_too(store: ArtifactStore, tmp_path: Path) -> None:
    dataset_id, sha256 = uuid4(), hashlib.sha256(b"words").hexdigest()
    output = dataset_output(dataset_id, sha256)
    assert list(store.datasets()) == []
    with store.staging() as folder:
        assert list(folder.iterdir()) == []
        (folder / "content.txt").write_bytes(b"words")
        (stored,) = store.put_folder(folder, output, check=never)
    assert not folder.exists()
    assert list(store.datasets()) == [(dataset_id, output)]
    assert list(store.attempts()) == []
    assert b"".join(store.chunks(stored.key)) == b"words"
    found = store.folder(output, [stored], cache=tmp_path / "cache", check=never)
    assert (found / "content.txt").read_bytes() == b"words"
    store.delete_folder(output)
    assert list(store.datasets()) == []


def test_ranges(store: ArtifactStore, out: Path) -> None:
    key = next(file.key for file in store.put_folder(out, output_of(uuid4(), 1), check=never) if "model" in file.path)
    content = FILES["checkpoint/model.safetensors"]
    for start, length in ((0, 10), (2_000_000, 1_000_000), (2_999_999, 5), (5, 0), (1_048_570, 20)):
        assert b"".join(store.chunks(key, start=start, length=length)) == content[start : start + length]


def test_a_missing_file_is_not_found(store: ArtifactStore) -> None:
    with pytest.raises(NotFound):
        store.chunks("stages/none/1/x")


def test_a_folder_can_be_read_locally(store: ArtifactStore, out: Path, tmp_path: Path) -> None:
    output = output_of(uuid4(), 7)
    files = store.put_folder(out, output, check=never)
    for _ in range(2):
        folder = store.folder(output, files, cache=tmp_path / "cache", check=never)
        found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        assert found == set(FILES)
        assert all((folder / name).read_bytes() == content for name, content in FILES.items())


def test_a_download_that_differs_is_refused(out: Path, tmp_path: Path) -> None:
    store, output = memory_store(), output_of(uuid4(), 1)
    files = store.put_folder(out, output, check=never)
    (out / "pruned.json").write_bytes(b"other")
    store.put_folder(out, output, check=never)
    with pytest.raises(StageFailed, match="checksum"):
        store.folder(output, files, cache=tmp_path / "cache", check=never)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_attempts_are_listed_and_deleted(store: ArtifactStore, out: Path) -> None:
    first, second = uuid4(), uuid4()
    for stage, token in ((first, 1), (first, 2), (second, 1)):
        store.put_folder(out, output_of(stage, token), check=never)
    assert {(stage, token) for stage, token, _ in store.attempts()} == {(first, 1), (first, 2), (second, 1)}
    store.delete_folder(output_of(first, 1))
    store.delete_folder(output_of(first, 1))
    assert {(stage, token) for stage, token, _ in store.attempts()} == {(first, 2), (second, 1)}


def test_giving_up_leaves_nothing(store: ArtifactStore, out: Path) -> None:
    calls = 0

    def give_up() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise OSError(errno.ENOSPC, "no space left on device")

    with pytest.raises(OSError, match="no space"):
        store.put_folder(out, output_of(uuid4(), 1), check=give_up)
    assert list(store.attempts()) == []


def test_links_are_not_published(store: ArtifactStore, out: Path) -> None:
    (out / "passwd").symlink_to("/etc/passwd")
    with pytest.raises(StageFailed, match="passwd"):
        store.put_folder(out, output_of(uuid4(), 1), check=never)
    assert list(store.attempts()) == []


def test_a_local_store_links_and_does_not_copy(out: Path, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    files = store.put_folder(out, output_of(uuid4(), 1), check=never)
    for file in files:
        assert (tmp_path / "store" / file.key).samefile(out / file.path)


def test_half_made_folders_are_swept(out: Path, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    half_made = tmp_path / "store" / ".partial" / "x"
    half_made.mkdir(parents=True)
    store.sweep(older_than=60)
    assert half_made.exists()
    os.utime(half_made, (0, 0))
    store.sweep(older_than=60)
    assert not half_made.exists()


def test_a_key_cannot_leave_the_store(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    with pytest.raises(NotFound):
        LocalStore(tmp_path / "store").chunks("../secret")


def test_urls(tmp_path: Path) -> None:
    store = open_store((tmp_path / "a b").as_uri())
    store.ready()
    assert (tmp_path / "a b").is_dir()
    with pytest.raises(ValueError, match="expected file"):
        open_store("ftp://host/x")
