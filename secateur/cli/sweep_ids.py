"""How a command is told which sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

from secateur.cli import ids

if TYPE_CHECKING:
    from secateur.client.http_client import Client

SweepId = Annotated[str, ids.argument("sweep")]


def find(client: Client, text: str) -> UUID:
    """The one sweep that is meant. Ends the command where there is none, or several."""
    return ids.find(client.sweeps.list, text, what="sweep")
