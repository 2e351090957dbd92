"""A checkpoint folder that is either complete or not there."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from secateur.contract.errors import StageFailed
from secateur.whole_files import whole_folder


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder beside `target` that takes its name when the block ends well, and is removed when it does not.

    Raises:
        StageFailed: `target` exists already, or the disk is full.
    """
    if target.exists():
        raise StageFailed(f"The folder {target.name} exists already; a checkpoint is never written over another.")
    with full_disk(), whole_folder(target) as part:
        yield part


@contextmanager
def full_disk() -> Iterator[None]:
    """Raise StageFailed, with the system's own reason, where the block runs out of space."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StageFailed(f"The checkpoint could not be written: {error.strerror}.") from error
        raise
