"""How a command is told which sweep: its whole id, how the id begins or ends, or `@last`, as for jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from secateur.cli.job_ids import LAST, has_form
from secateur.cli.session import usage

if TYPE_CHECKING:
    from secateur.client.http_client import Client

_PAGE = 100


def known_form(text: str) -> str:
    """`text`, if a sweep can be meant by it."""
    return has_form(text, "sweep")


SweepId = Annotated[
    str,
    typer.Argument(
        metavar="SWEEP",
        callback=known_form,
        help=f"The sweep's id, how it begins or ends (4 characters or more), or {LAST}: the newest sweep.",
    ),
]


def find(client: Client, text: str) -> UUID:
    """The one sweep that is meant. Ends the command where there is none, or several."""
    part = text.replace("-", "").lower()
    if len(part) == 32:
        return UUID(text)
    if text == LAST:
        newest = next(client.sweeps(page_size=1), None)
        if newest is None:
            raise usage("there is no sweep yet")
        return newest.id
    found = [
        sweep
        for sweep in client.sweeps(page_size=_PAGE)
        if sweep.id.hex.startswith(part) or sweep.id.hex.endswith(part)
    ]
    if not found:
        raise usage(f"no sweep has an id that begins or ends with {text}")
    if len(found) > 1:
        lines = [f"  {sweep.id}  {sweep.state.value:10}  {sweep.model}" for sweep in found]
        raise usage("\n".join([f"several sweeps have an id that begins or ends with {text}:", *lines]))
    return found[0].id
