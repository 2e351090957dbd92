"""A command with a flag for every field of a job's spec.

The flags are made from the contract, whose classes take longer to load than all other commands together; so they are
made when the command is named, and not for `secateur --help`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from secateur.cli.session import asks_service

if TYPE_CHECKING:
    from secateur.cli.spec_flags import Flag

_TYPES: dict[str, Any] = {
    "int": int | None,
    "float": float | None,
    "bool": bool | None,
    "str": str | None,
    "list": str | None,
    "strings": list[str] | None,
    "quantisations": list[str] | None,
    "pairs": list[str] | None,
    "figures": list[str] | None,
    "text": str | None,
    "texts": list[str] | None,
    "model": str | None,
    "off": bool | None,
}
_METAVARS = {
    "list": "N,N,…",
    "text": "TEXT",
    "texts": "TEXT",
    "strings": "STRING",
    "quantisations": "KIND",
    "pairs": "NAME=VALUE",
    "figures": "NAME=NUMBER",
    "model": "MODEL",
}


def spec_command(function: Callable[..., None]) -> type[TyperCommand]:
    """The class of a command that calls `function`, whose own parameters come first, with the flags as `**values`."""

    class SpecCommand(TyperCommand):
        """Stands in the list of commands, and has the command with its flags made once it is named."""

        @cached_property
        def _whole(self) -> Any:  # typer's own copy of click is no public name
            alone = typer.Typer(add_completion=False, rich_markup_mode=self.rich_markup_mode)
            alone.command(self.name)(asks_service(_with_flags(function)))
            return typer.main.get_command(alone)

        def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
            return self._whole.make_context(info_name, args, parent, **extra)

        def get_params(self, ctx: Any) -> list[Any]:
            return list(self._whole.get_params(ctx))

    return SpecCommand


def _with_flags(function: Callable[..., None]) -> Callable[..., None]:
    """`function` with one parameter for each flag, as Typer reads parameters from a signature."""
    from secateur.cli.spec_flags import spec_flags

    signature = inspect.signature(function, eval_str=True)
    own = [parameter for parameter in signature.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
    parameters = [*own, *(_parameter(flag) for flag in spec_flags())]

    def command(*arguments: Any, **values: Any) -> None:
        function(*arguments, **values)

    command.__doc__ = function.__doc__
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # PEP 362
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _parameter(flag: Flag) -> inspect.Parameter:
    declared = [flag.option]
    if flag.kind == "bool":
        declared = [f"{flag.option}/--no-{flag.option.removeprefix('--')}"]
    option = typer.Option(
        *declared, help=flag.help, rich_help_panel=flag.panel, metavar=_METAVARS.get(flag.kind), show_default=False
    )
    annotation: Any = Annotated.__class_getitem__((_TYPES[flag.kind], option))  # type: ignore[attr-defined]  # made at run time
    return inspect.Parameter(flag.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
