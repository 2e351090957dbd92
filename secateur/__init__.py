"""The client of Secateur: `from secateur import Client`. See docs/use-from-python.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from secateur.about import VERSION as __version__

if TYPE_CHECKING:
    from secateur.client.http_client import Client

__all__ = ["Client", "__version__"]


def __getattr__(name: str) -> Any:
    """`Client` is imported when it is asked for: the service and its workers need the contract alone."""
    if name == "Client":
        from secateur.client.http_client import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
