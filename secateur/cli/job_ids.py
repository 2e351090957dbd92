"""How a command is told which job: its whole id, how the id begins or ends, or `@last`.

Ids are UUIDs of version 7: they begin with the time, so jobs of the same minute begin alike, and the end is what tells
jobs apart. `secateur jobs` therefore shows the end, of eight digits: among 100,000 jobs the chance that another one
ends like the one that is meant is 1 in 43,000, and then the command names both.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from secateur.cli.session import usage

if TYPE_CHECKING:
    from secateur.client.http_client import Client

LAST = "@last"
SHOWN_DIGITS = 8
_LEAST_DIGITS = 4  # that the service takes
_CANDIDATES = 10  # that are listed where several jobs fit
_PART = re.compile(rf"(-?[0-9a-fA-F]){{{_LEAST_DIGITS},32}}")


def known_form(text: str) -> str:
    """`text`, if a job can be meant by it."""
    return has_form(text, "job")


def has_form(text: str, what: str) -> str:
    """`text`, if it may be an id, an end of one, or the newest."""
    if text != LAST and not _PART.fullmatch(text):
        raise typer.BadParameter(
            f"{text!r} is no {what}: write its id, {_LEAST_DIGITS} or more characters that it begins or ends with, "
            f"or {LAST} for the newest"
        )
    return text


JobId = Annotated[
    str,
    typer.Argument(
        metavar="JOB",
        callback=known_form,
        help=f"The job's id, how it begins or ends ({_LEAST_DIGITS} characters or more), or {LAST}: the newest job.",
    ),
]


def short(job_id: UUID) -> str:
    """What can be typed in place of the id."""
    return job_id.hex[-SHOWN_DIGITS:]


def find(client: Client, text: str) -> UUID:
    """The one job that is meant. Ends the command where there is none, or several."""
    if len(text.replace("-", "")) == 32:
        return UUID(text)
    if text == LAST:
        newest = next(client.jobs(page_size=1), None)
        if newest is None:
            raise usage("there is no job yet")
        return newest.id
    found = list(islice(client.jobs(part_of_id=text, page_size=_CANDIDATES + 1), _CANDIDATES + 1))
    if not found:
        raise usage(f"no job has an id that begins or ends with {text}")
    if len(found) > 1:
        lines = [f"  {job.id}  {job.state.value:10}  {job.model}" for job in found[:_CANDIDATES]]
        more = ["  and more"] if len(found) > _CANDIDATES else []
        raise usage("\n".join([f"several jobs have an id that begins or ends with {text}:", *lines, *more]))
    return found[0].id
