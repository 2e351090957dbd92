"""The hub's token in a stage process: only in those that fetch, and in their environment only while they do.

The fork server has no token, nor any other secret, and stages are its forks. The worker hands the token to a stage that
fetches through a pipe, which it alone reads (`workers/launch/guardian.py`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from secateur import masking

VARIABLE = "HF_TOKEN"  # huggingface_hub and datasets read it at each request

_kept: str | None = None
_fetching = 0


def keep(token: str | None) -> None:
    """What this process fetches with."""
    global _kept
    _kept = token or None
    masking.learn([token] if token else [])


@contextmanager
def fetching() -> Iterator[None]:
    """The block fetches from the hub. Blocks may lie within each other."""
    global _fetching
    if _kept is not None:
        os.environ[VARIABLE] = _kept
    _fetching += 1
    try:
        yield
    finally:
        _fetching -= 1
        if _kept is not None and not _fetching:
            os.environ.pop(VARIABLE, None)
