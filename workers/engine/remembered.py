"""What an attempt at a stage has found out stands in a file, so that the next attempt goes on from there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from secateur.whole_files import write_whole


def remembered(file: Path, find: Callable[[], Any]) -> Any:
    """What `find` gave to the first attempt that got so far, as JSON: later ones get the same."""
    if not file.is_file():
        found = find()
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(found).encode())
    return json.loads(file.read_bytes())
