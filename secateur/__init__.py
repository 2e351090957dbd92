"""The client of Secateur: `from secateur import Client`, or `AsyncClient`. See docs/use-from-python.md."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from secateur.about import VERSION as __version__

if TYPE_CHECKING:
    from secateur.client.async_client import AsyncClient
    from secateur.client.http_client import Client

__all__ = ["AsyncClient", "Client", "__version__"]

_MODULES = {"AsyncClient": "secateur.client.async_client", "Client": "secateur.client.http_client"}


def __getattr__(name: str) -> Any:
    """The clients are imported when they are asked for: the service and its workers need the contract alone."""
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
