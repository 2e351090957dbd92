"""A command with a flag for every field of a job's spec."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from secateur.cli.spec_flags import Flag, spec_flags

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


def spec_command(function: Callable[..., None]) -> Callable[..., None]:
    """`function`, whose own parameters come first, with one for each flag, as Typer reads them from a signature.

    It gets the flags as `**values`.
    """
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
