"""Downloading one artifact: resumed where it broke off, checked, and only then given its name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import aclosing
from functools import partial
from pathlib import Path, PurePosixPath

import httpx

from secateur.client.connection import Connection
from secateur.client.errors import ChecksumMismatch, ClientError, RateLimited, ServiceFailed, Unreachable, refused
from secateur.client.requests import asked_delay
from secateur.schemas.artifacts import Artifact

TRIES = 5

Progress = Callable[[Artifact, int], None]  # a file, and how many of its bytes are there


def safe_destination(folder: Path, path: str) -> Path:
    """Where the artifact `path` goes below `folder`; a path that would leave it is refused."""
    parts = PurePosixPath(path).parts
    if not parts or any(part in ("..", "/") or "\\" in part or ":" in part for part in parts):
        raise ClientError(f"the service names an artifact {path!r}, which is no path below a folder")
    return folder.joinpath(*parts)


async def download_file(
    connection: Connection, url: str, path: Path, artifact: Artifact, progress: Progress | None
) -> None:
    """Download `url` to `path`, through `path`.part. Raises ChecksumMismatch, Unreachable, RequestRefused."""
    there = path.exists() and path.stat().st_size == artifact.size
    if there and await connection.work(partial(sha256_of, path)) == artifact.sha256:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    broken = 0
    for attempt in range(1, TRIES + 1):
        try:
            await _fetch(connection, url, part, artifact, progress)
        except (Unreachable, RateLimited, ServiceFailed) as error:
            if attempt == TRIES:
                raise
            await connection.sleep(max(0.5 * 2**attempt, asked_delay(error)))
            continue
        if part.stat().st_size < artifact.size:
            continue  # the connection was closed early without an error: go on from there
        if await connection.work(partial(sha256_of, part)) == artifact.sha256:
            part.replace(path)
            return
        part.unlink()  # it may have been resumed from a broken part: once more from the start
        broken += 1
        if broken == 2:
            raise ChecksumMismatch(f"{artifact.path}: what came is not what was published (sha256 {artifact.sha256})")
    raise Unreachable(f"the download of {artifact.path} broke off {TRIES} times; what came is kept and is resumed")


async def _fetch(connection: Connection, url: str, part: Path, artifact: Artifact, progress: Progress | None) -> None:
    """Append to `part` what is missing of it."""
    have = part.stat().st_size if part.exists() else 0
    if have >= artifact.size:
        part.unlink(missing_ok=True)
        have = 0
    headers = {"accept-encoding": "identity"}
    if have:
        headers |= {"range": f"bytes={have}-", "if-range": f'"{artifact.sha256}"'}
    try:
        async with connection.stream("GET", url, headers=headers) as response:
            if response.status_code >= 400:
                raise refused(response.status_code, await connection.whole(response), response.headers)
            resumed = response.status_code == 206
            done = have if resumed else 0
            with part.open("ab" if resumed else "wb") as file:
                async with aclosing(connection.chunks(response)) as chunks:
                    async for chunk in chunks:
                        await connection.work(partial(file.write, chunk))
                        done += len(chunk)
                        if progress is not None:
                            progress(artifact, done)
    except httpx.TransportError as error:
        raise Unreachable(f"the download of {artifact.path} broke off: {error}") from error


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
