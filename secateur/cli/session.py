"""What every command shares: the client, two consoles, and how errors become exit codes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from secateur.contract.shown import SHOWN_CHARACTERS, shortened
from secateur.whole_files import write_whole

if TYPE_CHECKING:
    from secateur.client.http_client import Client
    from secateur.schemas.problem import Problem

out = Console()  # results
err = Console(stderr=True)  # what is said about them


class Exit(IntEnum):
    """Exit codes, the same for every command. A pipeline may try 30 and 40 again."""

    OK = 0  # done; of `gate`: every gate passed
    USAGE = 2  # the command or the spec has to change
    GATE_FAILED = 10
    NO_GATES = 11  # the job has none, so there is nothing that it could pass
    JOB_FAILED = 20
    JOB_CANCELLED = 21
    TIMED_OUT = 30  # the job goes on
    SERVICE = 40  # no answer, no key, or the service is in trouble


@contextmanager
def connect() -> Iterator[Client]:
    """A client for the service that --url names; its errors are printed, and end the command with their exit code."""
    from secateur.client import errors
    from secateur.client.http_client import Client

    try:
        with Client() as client:
            yield client
    except (errors.InvalidRequest, errors.NotFound, errors.Conflict) as error:
        show_problem(error.problem)
        raise typer.Exit(Exit.USAGE) from None
    except errors.WaitTimedOut as error:
        fail(str(error))
        raise typer.Exit(Exit.TIMED_OUT) from None
    except errors.RequestRefused as error:
        show_problem(error.problem)
        raise typer.Exit(Exit.SERVICE) from None
    except errors.ClientError as error:
        fail(str(error))
        if isinstance(error, errors.Unreachable) and "SECATEUR_URL" not in os.environ:
            err.print("[dim]Start a service with [bold]secateur up[/], or name one with --url or SECATEUR_URL.[/]")
        raise typer.Exit(Exit.SERVICE) from None
    except OSError as error:
        if error.filename is None and error.errno != errno.ENOSPC:
            raise  # of a pipe that nobody reads any more, and of whatever is no file
        raise usage(_of_file(error)) from None


def write_file(path: Path, text: str) -> None:
    """Write a file that the user has named; where that cannot be done, it is said and ends the command."""
    try:
        write_whole(path, text)
    except OSError as error:
        raise usage(_of_file(error, path)) from None


def _of_file(error: OSError, path: Path | None = None) -> str:
    name = path or error.filename
    return f"{name}: {error.strerror}" if name else str(error.strerror)


def fail(message: str) -> None:
    """One line about what went wrong."""
    err.print(f"[bold red]error:[/] {plain(message)}")


def usage(message: str) -> typer.Exit:
    """Say what is wrong with the command, and end it: `raise usage(...)`."""
    fail(message)
    return typer.Exit(Exit.USAGE)


def show_problem(problem: Problem) -> None:
    """A problem object: its detail, then each field that is to blame."""
    where = f" in stage {problem.stage}" if problem.stage else ""
    fail(f"{problem.title}{where}: {problem.detail}")
    for field in problem.errors or []:
        place = field.parameter or field.pointer or "body"
        line = f"  [cyan]{plain(place)}[/] {plain(field.detail.removesuffix('.'))}"
        if field.value is not None:
            line += f" [dim](given: {plain(shortened(repr(field.value), SHOWN_CHARACTERS))})[/]"
        if field.expected:
            line += f"; expected: {plain(field.expected)}"
        err.print(line)
    if problem.request_id:
        err.print(f"  [dim]request {plain(problem.request_id)}[/]")


def plain(text: str) -> str:
    """Text without meaning as markup."""
    from rich.markup import escape

    return escape(text)


def timeout_seconds(typed: str | None) -> float | None:
    """Of the option --timeout; ends the command where it is no duration."""
    try:
        return None if typed is None else parse_seconds(typed)
    except ValueError as error:
        raise usage(f"--timeout {typed}: {error}") from None


def parse_seconds(text: str) -> float:
    """ "90", "90s", "15m", "2h", "1d" in seconds. Raises ValueError."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number, unit = (text[:-1], text[-1]) if text and text[-1] in units else (text, "s")
    seconds = float(number) * units[unit]
    if not 0 < seconds < float("inf"):
        raise ValueError("a duration is above 0")
    return seconds
