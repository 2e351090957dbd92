"""`secateur settings`: every setting of the service, from the one place where they are defined."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, Any, get_args, get_origin

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from secateur.cli.session import out

_PAGE = """\
# Settings

Every setting is an environment variable. API and workers read the same ones, and check them when they start. This page
is what `secateur settings --markdown` prints.

| variable | default | what it is |
|---|---|---|
"""


@dataclass(frozen=True)
class Setting:
    """One setting as a reader needs it."""

    variable: str
    default: str
    description: str


def settings(
    markdown: Annotated[bool, typer.Option("--markdown", help="As the page of the documentation.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List the SECATEUR_* settings with their defaults."""
    if markdown:
        print(page(), end="")
        return
    if as_json:
        for setting in all_settings():
            print(json.dumps(asdict(setting)))
        return
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("Variable", "Default", "What it is"):
        table.add_column(name, overflow="fold")
    for setting in all_settings():
        table.add_row(setting.variable, escape(setting.default), escape(setting.description))
    out.print(table)


def page() -> str:
    """The settings as a Markdown page."""
    rows = (
        f"| `{s.variable}` | {f'`{s.default}`' if s.default else ''} | {s.description.replace('|', '&#124;')} |\n"
        for s in all_settings()
    )
    return _PAGE + "".join(rows)


def all_settings() -> Iterator[Setting]:
    """In the order of their definition."""
    from app.settings import Settings

    for name, field in Settings.model_fields.items():
        default = "" if field.default_factory is not None or field.default is None else _shown(field.default)
        description = " ".join(filter(None, (field.description, _choices(field.annotation))))
        yield Setting(f"SECATEUR_{name.upper()}", default, description)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _choices(annotation: Any) -> str:
    names = getattr(get_origin(annotation), "__name__", None) or str(get_origin(annotation))
    return f"One of {', '.join(map(str, get_args(annotation)))}." if "Literal" in names else ""
