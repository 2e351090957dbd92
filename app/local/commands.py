"""What the `secateur` command gains where the service is installed. Each command is imported when it is named."""

from __future__ import annotations

from secateur.cli.overview import Row

_PANEL = "Service"
_HERE = "app.local.service_commands"


def _row(name: str, target: str, help: str) -> Row:
    return Row(name, target, _PANEL, help, asks=False)


COMMANDS = (
    _row("up", f"{_HERE}:up", "Run the whole service on this machine, until Ctrl-C."),
    _row("api", f"{_HERE}:api", "Run the HTTP service alone, in this process; for a cluster."),
    _row("worker", f"{_HERE}:worker", "Run a worker alone, in this process; for a cluster."),
    _row(
        "migrate",
        f"{_HERE}:migrate",
        "Bring the database of SECATEUR_DATABASE_URL to the schema of this version; safe to run again.",
    ),
    _row("settings", "app.local.settings_list:settings", "List the SECATEUR_* settings with their defaults."),
    _row(
        "doctor",
        "app.local.doctor:doctor",
        "Look at database, broker, store, disk, GPU, hub and versions: what is wrong, and how to mend it.",
    ),
)


def add_to(rows: list[Row]) -> None:
    """Give the `secateur` command what runs the service; it finds this function by the entry point of this package."""
    rows += COMMANDS
