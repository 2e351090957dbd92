"""The commands as a table, and what `--help` prints: plain text, for which next to nothing is imported.

A command's module is imported when the command is named. The overview needs none of them: what it says of each stands
in the table. Help is not drawn by rich, whose parts for that take longer to load than everything else together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from secateur.cli.service_option import asks_service


@dataclass(frozen=True)
class Row:
    """One command."""

    name: str  # as it is typed
    target: str  # "module:function", or "module:commands", a `typer.Typer` of commands of its own
    panel: str  # the heading under which the overview has it
    help: str  # the first sentence of its own help
    asks: bool = True  # whether it asks a service, which --url names
    hidden: bool = False
    context: Mapping[str, Any] | None = None  # settings of typer's context


class PlainGroup(TyperGroup):
    """A group of commands whose help says of each its whole first sentence."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # typer's own copy of click is no public name
        """Where a command's help is asked for, nothing else is read: to read options, typer loads pydantic."""
        named = len(args) > 1 and args[0] in self.commands and not any(arg.startswith("-") for arg in args[:-1])
        if named and args[-1] in ctx.help_option_names:
            ctx._protected_args, ctx.args = args[:1], args[1:]
            return args
        return list(super().parse_args(ctx, args))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        self.format_options(ctx, formatter)
        formatter.write_paragraph()

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The commands that are not hidden, under their headings."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for panel, name, words in self.overview(ctx):
            panels.setdefault(panel, []).append((name, words))
        widest = max(len(name) for rows in panels.values() for name, _ in rows)
        for panel, rows in panels.items():
            with formatter.section(panel):
                formatter.write_dl([(name.ljust(widest), words) for name, words in rows])

    def overview(self, ctx: Any) -> Iterator[tuple[str, str, str]]:
        """Heading, name and first sentence of each command."""
        for name in self.list_commands(ctx):
            yield "Commands", name, first_sentence(self.commands[name])


def group_of(rows: Sequence[Row]) -> type[TyperGroup]:
    """The class of a group with these commands, in this order."""

    class Overview(PlainGroup):
        """The group of all commands."""

        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self.commands = _Commands(rows)  # type: ignore[assignment]  # typer only reads it

        def list_commands(self, ctx: Any) -> list[str]:
            return [row.name for row in rows]

        def overview(self, ctx: Any) -> Iterator[tuple[str, str, str]]:
            return ((row.panel, row.name, row.help) for row in rows if not row.hidden)

    return Overview


def first_sentence(command: Any) -> str:
    """Of a command's help."""
    return str(command.get_short_help_str(limit=1000))  # characters, of which it has less


class PlainCommand(TyperCommand):
    """A command whose help has its options under their headings."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                usual = "Arguments" if parameter.param_type_name == "argument" else "Options"
                panel = getattr(parameter, "rich_help_panel", None) or usual
                panels.setdefault(panel, []).append(record)
        for panel, records in panels.items():
            with formatter.section(panel):
                formatter.write_dl(records)


class _Commands(Mapping[str, Any]):
    """By name; each is made when it is asked for."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = {row.name: row for row in rows}
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = made(self._rows[name])
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


def made(row: Row) -> Any:
    """The command of a row, as typer runs it."""
    module, _, name = row.target.partition(":")
    target = getattr(import_module(module), name)
    if isinstance(target, typer.Typer):
        group = typer.main.get_group(target)
        group.name = row.name
        return group
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    settings = dict(row.context) if row.context else None
    command = alone.command(row.name, cls=PlainCommand, hidden=row.hidden, context_settings=settings)
    command(asks_service(target) if row.asks else target)
    return typer.main.get_command(alone)
