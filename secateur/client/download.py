"""Downloading one artifact: resumed where it broke off, checked, and only then given its name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import httpx

from secateur.client.errors import ChecksumMismatch, ClientError, RateLimited, ServiceFailed, Unreachable, refused
from secateur.schemas.artifacts import Artifact

TRIES = 5


def safe_destination(folder: Path, path: str) -> Path:
    """Where the artifact `path` goes below `folder`; a path that would leave it is refused."""
    parts = PurePosixPath(path).parts
    if not parts or any(part in ("..", "/") or "\\" in part or ":" in part for part in parts):
        raise ClientError(f"the service names an artifact {path!r}, which is no path below a folder")
    return folder.joinpath(*parts)


def download_file(
    http: httpx.Client,
    url: str,
    path: Path,
    artifact: Artifact,
    progress: Callable[[Artifact, int], None] | None,
    sleep: Callable[[float], None],
) -> None:
    """Download `url` to `path`, through `path`.part. Raises ChecksumMismatch, Unreachable, RequestRefused."""
    if path.exists() and path.stat().st_size == artifact.size and sha256_of(path) == artifact.sha256:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    broken = 0
    for attempt in range(1, TRIES + 1):
        try:
            _fetch(http, url, part, artifact, progress)
        except (Unreachable, RateLimited, ServiceFailed) as error:
            if attempt == TRIES:
                raise
            sleep(max(0.5 * 2**attempt, getattr(error, "retry_after", None) or 0.0))
            continue
        if part.stat().st_size < artifact.size:
            continue  # the connection was closed early without an error: go on from there
        if sha256_of(part) == artifact.sha256:
            part.replace(path)
            return
        part.unlink()  # it may have been resumed from a broken part: once more from the start
        broken += 1
        if broken == 2:
            raise ChecksumMismatch(f"{artifact.path}: what came is not what was published (sha256 {artifact.sha256})")
    raise Unreachable(f"the download of {artifact.path} broke off {TRIES} times; what came is kept and is resumed")


def _fetch(
    http: httpx.Client,
    url: str,
    part: Path,
    artifact: Artifact,
    progress: Callable[[Artifact, int], None] | None,
) -> None:
    """Append to `part` what is missing of it."""
    have = part.stat().st_size if part.exists() else 0
    if have >= artifact.size:
        part.unlink(missing_ok=True)
        have = 0
    headers = {"accept-encoding": "identity"}
    if have:
        headers |= {"range": f"bytes={have}-", "if-range": f'"{artifact.sha256}"'}
    try:
        with http.stream("GET", url, headers=headers) as response:
            if response.status_code >= 400:
                raise refused(response.status_code, response.read(), response.headers)
            resumed = response.status_code == 206
            done = have if resumed else 0
            with part.open("ab" if resumed else "wb") as file:
                for chunk in response.iter_bytes():
                    file.write(chunk)
                    done += len(chunk)
                    if progress is not None:
                        progress(artifact, done)
    except httpx.TransportError as error:
        raise Unreachable(f"the download of {artifact.path} broke off: {error}") from error


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
