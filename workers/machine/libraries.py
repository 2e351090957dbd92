"""What a stage computes with, by version: part of every report, and of the key under which results are shared."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from secateur.about import VERSION

LIBRARIES = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "datasets",
    "tokenizers",
    "safetensors",
    "gguf",
    "compressed-tensors",
    "numpy",
)


def versions() -> dict[str, str]:
    """Name → version of this project, by its own word, and of the libraries that are installed."""
    return {"secateur": VERSION, **_installed()}


@cache  # to look takes a hundred milliseconds, and it cannot change what this process has imported
def _installed() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
