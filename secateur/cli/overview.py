"""What `secateur --help` prints: the commands under their headings, in plain text.

The help of a command is drawn by rich, whose parts for that take longer to load than everything else together. The
overview, which is what people look at most often, does without them.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

_WHOLE_SENTENCE = 1000  # characters, of which a command's first sentence has less


class Overview(TyperGroup):
    """The group of all commands."""

    def format_help(self, ctx: Any, formatter: Any) -> None:  # typer's own copy of click is no public name
        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        self.format_options(ctx, formatter)
        formatter.write_paragraph()

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The commands that are not hidden, under the headings that they were given, in their order."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
            if not command.hidden:
                row = (name, command.get_short_help_str(limit=_WHOLE_SENTENCE))
                panels.setdefault(command.rich_help_panel or "Commands", []).append(row)
        widest = max(len(name) for rows in panels.values() for name, _ in rows)
        for panel, rows in panels.items():
            with formatter.section(panel):
                formatter.write_dl([(name.ljust(widest), text) for name, text in rows])
