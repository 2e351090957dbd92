"""What goes wrong with a store behind the network, told in one way, whatever library it came from.

S3's errors come as the errors of four libraries, some of them no OSErrors, and a connection that is refused is tried
for minutes. Here every call of a file system has its errors translated into `StoreFailed`, an OSError whose number
tells a store that is full, and the file system for S3 gives up after seconds.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CONNECT_SECONDS = 5
READ_SECONDS = 15  # without a byte
TRIES = 3
FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_CODES = frozenset({"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "InsufficientStorage"})
_LIBRARIES = frozenset({"botocore", "aiobotocore", "aiohttp", "s3fs", "fsspec"})


class StoreFailed(OSError):
    """The store did not do what it was asked to; `errno` is ENOSPC where it is full."""


def is_full(error: OSError) -> bool:
    """Whether a disk or a store has no room left."""
    return error.errno in FULL


def s3_filesystem() -> Any:
    """fsspec's file system for S3, with bounds on its waiting."""
    import fsspec  # heavy, and not needed for a local folder

    retries = {"mode": "standard", "total_max_attempts": TRIES}
    config = {"connect_timeout": CONNECT_SECONDS, "read_timeout": READ_SECONDS, "retries": retries}
    filesystem = fsspec.filesystem("s3", config_kwargs=config)
    filesystem.retries = 1  # of s3fs itself, around botocore's tries
    return filesystem


class Guarded:
    """A file system of fsspec, or a file that it has opened, whose calls raise StoreFailed."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if not callable(value):
            return value

        def call(*arguments: Any, **named: Any) -> Any:
            with _told():
                result = value(*arguments, **named)
            return Guarded(result) if name == "open" else result

        return call

    def __enter__(self) -> Guarded:
        with _told():
            self._inner.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        with _told():
            self._inner.__exit__(*error)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, StoreFailed):
        raise
    except Exception as error:
        if not isinstance(error, OSError) and type(error).__module__.partition(".")[0] not in _LIBRARIES:
            raise
        number = errno.ENOSPC if _says_full(error) else errno.EIO
        raise StoreFailed(number, f"the store failed ({type(error).__name__})") from error


def _says_full(error: BaseException | None) -> bool:
    """Whether the error, or the one that it was made from, is a store's way to say that it is full."""
    while error is not None:
        if getattr(error, "errno", None) in FULL:
            return True
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if status == 507 or response.get("Error", {}).get("Code") in _FULL_CODES:
                return True
        error = error.__cause__
    return False
