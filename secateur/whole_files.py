"""Files and folders that are either whole or not there: written under a temporary name, then renamed.

A name that ends in `.part` is beside its target, so that the rename stays on one file system. What a killed process has
left under it is written over by the next one. Where several processes may write the same target at once, each takes a
name of its own (`shared=True`), and the last to end wins.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(target: Path, *, shared: bool = False, durable: bool = False) -> Iterator[Path]:
    """A name to write to, which takes the place of `target` if the block ends well, and is removed if not.

    Args:
        shared: other processes may write the same target now.
        durable: outlast a power cut; the block must have closed the file.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = _part(target, shared=shared)
    try:
        yield part
        if durable:
            _sync(part)
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A fresh folder that takes the place of `target` if the block ends well, and is removed if not."""
    part = _part(target, shared=False)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def write_whole(target: Path, content: bytes | str, *, shared: bool = False, durable: bool = False) -> None:
    """Write a small file, text as UTF-8: a reader sees all of it or what was there before."""
    with whole_file(target, shared=shared, durable=durable) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def _part(target: Path, *, shared: bool) -> Path:
    return target.with_name(f"{target.name}.{uuid.uuid4().hex}.part" if shared else f"{target.name}.part")


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
