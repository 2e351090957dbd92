"""The models that lie under the model roots, by the names that a job may give: for the form, which offers them.

It is a look around and no search: so many folders deep, so many entries, so many names, and the rest can be typed.
Links to folders are not followed, which keeps it inside the roots and out of loops; a file that is a link counts if it
leads to a place under the roots, as in the hub's own cache. Whether a model can be pruned is checked when it is named.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from secateur.foreign_files.roots import NotUnderRoots, find_under, lies_under

DEPTH = 4  # folders below a root; the hub's cache has its models three below
MOST_ENTRIES = 5000  # that are looked at, of all roots
MOST_NAMES = 200


def local_models(roots: Sequence[Path]) -> list[str]:
    """Names relative to their roots, in the order of the roots and of the alphabet; no more than MOST_NAMES.

    A name that an earlier root has too means what lies there, so it is given once.
    """
    names: dict[str, None] = {}
    left = MOST_ENTRIES
    for root in roots:
        for entries in _folders(root, DEPTH):
            taken = entries[: max(0, left)]
            left -= len(taken)
            for found in _models(taken, roots):
                name = str(found.relative_to(root))
                if _can_be_named(name, found, roots):
                    names[name] = None
            if left <= 0 or len(names) >= MOST_NAMES:
                return list(names)[:MOST_NAMES]
    return list(names)


def _folders(folder: Path, depth: int) -> Iterator[list[os.DirEntry[str]]]:
    """The entries of a folder, then those of the folders in it; what cannot be read, or is hidden, is passed over."""
    try:
        with os.scandir(folder) as scanned:
            entries = sorted(islice(scanned, MOST_ENTRIES), key=lambda entry: entry.name)
    except OSError:
        return
    entries = [entry for entry in entries if not entry.name.startswith(".")]
    yield entries
    for entry in entries if depth > 0 else ():
        if entry.is_dir(follow_symlinks=False):
            yield from _folders(folder / entry.name, depth - 1)


def _models(entries: Sequence[os.DirEntry[str]], roots: Sequence[Path]) -> Iterator[Path]:
    """Of the entries of one folder: the folder itself, if it is a checkpoint, and the GGUF files in it."""
    names = {entry.name for entry in entries}
    weights = next((entry for entry in entries if entry.name.endswith(".safetensors")), None)
    if "config.json" in names and weights is not None and _is_file_under(weights, roots):
        yield Path(weights.path).parent
    for entry in entries:
        if entry.name.lower().endswith(".gguf") and _is_file_under(entry, roots):
            yield Path(entry.path)


def _is_file_under(entry: os.DirEntry[str], roots: Sequence[Path]) -> bool:
    try:
        return entry.is_file() and lies_under(Path(entry.path), roots)
    except (OSError, RuntimeError):  # gone, or a loop of links
        return False


def _can_be_named(name: str, found: Path, roots: Sequence[Path]) -> bool:
    """Whether the name leads to what was found, and can be written at all."""
    try:
        name.encode()
        return name != "." and find_under(name, roots) == found.resolve()
    except (UnicodeEncodeError, NotUnderRoots):
        return False
