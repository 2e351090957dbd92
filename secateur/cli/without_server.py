"""The commands that run the service, where only the client is installed: each says what it needs."""

from __future__ import annotations

from collections.abc import Callable

import typer

from secateur.about import SERVER
from secateur.cli.session import Exit, fail

COMMANDS = ("up", "api", "worker", "migrate", "settings", "doctor")


def add_to(commands: typer.Typer) -> None:
    """Give the command line these commands, out of sight of its help."""
    any_arguments = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
    for name in COMMANDS:
        commands.command(name, hidden=True, context_settings=any_arguments)(_refusal(name))


def _refusal(name: str) -> Callable[[], None]:
    def refuse() -> None:
        fail(f"`secateur {name}` runs the service, which needs {SERVER}; docs/install.md says how it is installed")
        raise typer.Exit(Exit.USAGE)

    return refuse
