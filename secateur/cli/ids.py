"""How a command is told what it is about, a job or a sweep: its whole id, how the id begins or ends, or `@last`.

Ids are UUIDs of version 7: they begin with the time, so what was made in the same minute begins alike, and the end is
what tells them apart. `secateur jobs` therefore shows the end, of eight digits: among 100,000 jobs the chance that
another one ends like the one that is meant is 1 in 43,000, and then the command names both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

import typer

from secateur.cli.session import usage

if TYPE_CHECKING:
    from secateur.contract.jobs import State

LAST = "@last"
SHOWN_DIGITS = 8
_LEAST_DIGITS = 4  # that the service takes
_CANDIDATES = 10  # that are listed where several fit
_PART = re.compile(rf"(-?[0-9a-fA-F]){{{_LEAST_DIGITS},32}}")


class Found(Protocol):
    """What a list tells of each."""

    @property
    def id(self) -> UUID: ...
    @property
    def state(self) -> State: ...
    @property
    def model(self) -> str: ...


class Listing(Protocol):
    """A client's method that lists them, the newest first."""

    def __call__(self, *, part_of_id: str | None = None, page_size: int = 50) -> Iterator[Found]: ...


def known_form(what: str) -> Callable[[str], str]:
    """For typer: lets through what may be an id of this kind, an end of one, or the newest."""

    def checked(text: str) -> str:
        if text != LAST and not _PART.fullmatch(text):
            raise typer.BadParameter(
                f"{text!r} is no {what}: write its id, {_LEAST_DIGITS} or more characters that it begins or ends with, "
                f"or {LAST} for the newest"
            )
        return text

    return checked


def argument(what: str) -> Any:
    """The argument of a command that names one."""
    forms = f"how it begins or ends ({_LEAST_DIGITS} characters or more), or {LAST}: the newest {what}."
    return typer.Argument(metavar=what.upper(), callback=known_form(what), help=f"The {what}'s id, {forms}")


def short(found_id: UUID) -> str:
    """What can be typed in place of the id."""
    return found_id.hex[-SHOWN_DIGITS:]


def find(listing: Listing, text: str, *, what: str) -> UUID:
    """The id of the one that is meant. Ends the command where there is none, or several."""
    if len(text.replace("-", "")) == 32:
        return UUID(text)
    if text == LAST:
        newest = next(listing(page_size=1), None)
        if newest is None:
            raise usage(f"there is no {what} yet")
        return newest.id
    found = list(islice(listing(part_of_id=text, page_size=_CANDIDATES + 1), _CANDIDATES + 1))
    if not found:
        raise usage(f"no {what} has an id that begins or ends with {text}")
    if len(found) > 1:
        lines = [f"  {each.id}  {each.state.value:10}  {each.model}" for each in found[:_CANDIDATES]]
        more = ["  and more"] if len(found) > _CANDIDATES else []
        raise usage("\n".join([f"several {what}s have an id that begins or ends with {text}:", *lines, *more]))
    return found[0].id
