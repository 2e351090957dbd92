"""The commands that run the service, where only the client is installed: each says what it needs."""

from __future__ import annotations

import typer

from secateur.about import SERVER
from secateur.cli.overview import Row
from secateur.cli.session import Exit, fail

_ANY = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
_NAMES = ("up", "api", "worker", "migrate", "settings", "doctor")

COMMANDS = tuple(Row(name, f"{__name__}:refuse", "", "", asks=False, hidden=True, context=_ANY) for name in _NAMES)


def refuse(context: typer.Context) -> None:
    """Say what the command needs, and end it."""
    needs = f"which needs {SERVER}; docs/install.md says how it is installed"
    fail(f"`secateur {context.info_name}` runs the service, {needs}")
    raise typer.Exit(Exit.USAGE)
