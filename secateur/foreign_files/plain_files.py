"""A model's folder holds files and folders. Named pipes, sockets and devices among them are refused before anything is
opened: whoever reads a pipe that nobody writes to waits for ever.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from secateur.contract.shown import shortened

PLAIN_EXPECTED = "a folder of plain files"
_INNER = ("additional_chat_templates",)  # folders in which transformers looks too


def special_file(folder: Path) -> str | None:
    """What in the folder is neither a file nor a folder, symlinks followed: its name, or None."""
    return next(_special_files(folder), None)


def special_detail(name: str) -> str:
    """The sentence for it."""
    return f"{shortened(ascii(name)[1:-1])} is a named pipe, a socket or a device, and no file"


def _special_files(folder: Path) -> Iterator[str]:
    for place in (folder, *(folder / name for name in _INNER)):
        try:
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError:  # there is none, or whoever reads it says what is wrong
            continue
        for entry in entries:
            try:
                mode = entry.stat().st_mode
            except OSError:  # a link to nowhere
                continue
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                yield entry.name
