"""Downloads, with both clients."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import httpx
import pytest

from secateur.client.errors import (
    ChecksumMismatch,
    ClientError,
    Unreachable,
)
from tests.fixtures.scripted_service import (
    JOB,
    NOW,
    Broken,
    Fake,
    Handler,
)

pytestmark = pytest.mark.usefixtures("runner")  # each test is run with both clients


CONTENT = bytes(range(256)) * 40


def artifact(path: str = "recover/checkpoint/model.safetensors", content: bytes = CONTENT) -> dict[str, Any]:
    return {
        "path": path,
        "stage": "recover",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "content_type": "application/octet-stream",
        "created_at": NOW,
    }


def download_service(contents: list[httpx.Response | Exception] | Handler, path: str | None = None) -> Fake:
    listed = artifact(path) if path else artifact()
    fake = Fake(get_artifacts=[httpx.Response(200, json={"data": [listed]})])
    fake.routes["get_artifacts_" + listed["path"].replace("/", "_")] = contents
    return fake


def test_a_download_is_resumed_and_checked(tmp_path: Path) -> None:
    def ranged(request: httpx.Request) -> httpx.Response:
        if "range" not in request.headers:
            return httpx.Response(200, stream=Broken(CONTENT[:3000]))
        start = int(request.headers["range"].removeprefix("bytes=").removesuffix("-"))
        assert request.headers["if-range"] == f'"{hashlib.sha256(CONTENT).hexdigest()}"'
        return httpx.Response(206, content=CONTENT[start:])

    fake = download_service(ranged)
    seen: list[int] = []
    paths = fake.client().jobs.download(JOB, tmp_path, prefix="recover/", progress=lambda a, done: seen.append(done))
    assert paths == [tmp_path / "recover/checkpoint/model.safetensors"]
    assert paths[0].read_bytes() == CONTENT
    assert seen[-1] == len(CONTENT)
    assert not list(tmp_path.rglob("*.part"))
    before = len(fake.requests)
    fake.client().jobs.download(JOB, tmp_path)
    assert len(fake.requests) == before + 1  # the list alone: the file is there and whole


def test_a_corrupt_download_is_not_kept(tmp_path: Path) -> None:
    fake = download_service(lambda request: httpx.Response(200, content=b"x" * len(CONTENT)))
    with pytest.raises(ChecksumMismatch, match="not what was published"):
        fake.client().jobs.download(JOB, tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_download_that_keeps_breaking_is_kept_for_later(tmp_path: Path) -> None:
    def broken(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("reset")

    fake = download_service(broken)
    with pytest.raises(Unreachable, match="broke off"):
        fake.client().jobs.download(JOB, tmp_path)


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "recover/../../x", "C:/x"])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path: Path, path: str) -> None:
    fake = download_service([httpx.Response(200, content=CONTENT)], path)
    with pytest.raises(ClientError, match="no path below a folder"):
        fake.client().jobs.download(JOB, tmp_path)


def test_a_part_that_is_longer_than_the_file_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "recover/checkpoint/model.safetensors"
    path.parent.mkdir(parents=True)
    path.with_name(path.name + ".part").write_bytes(CONTENT + b"of something else")
    fake = download_service([httpx.Response(200, content=CONTENT)])
    assert fake.client().jobs.download(JOB, tmp_path) == [path]
    assert path.read_bytes() == CONTENT
    assert "range" not in fake.requests[-1].headers


def test_only_what_is_under_the_prefix_comes(tmp_path: Path) -> None:
    fake = download_service([httpx.Response(200, content=CONTENT)])
    assert fake.client().jobs.download(JOB, tmp_path, prefix="prune/") == []
    assert list(tmp_path.iterdir()) == []
    assert len(fake.requests) == 1  # the list alone
