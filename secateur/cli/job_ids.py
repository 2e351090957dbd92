"""How a command is told which job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

from secateur.cli import ids

if TYPE_CHECKING:
    from secateur.client.http_client import Client

JobId = Annotated[str, ids.argument("job")]


def find(client: Client, text: str) -> UUID:
    """The one job that is meant. Ends the command where there is none, or several."""
    return ids.find(client.jobs.list, text, what="job")
