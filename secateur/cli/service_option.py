"""How a command is told which service it asks: by --url, before or after its name."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, TypeVar, cast

import typer

Url = Annotated[str | None, typer.Option(help="The service (default: SECATEUR_URL, or http://127.0.0.1:8000).")]

Function = TypeVar("Function", bound=Callable[..., None])


def asks_service(command: Function) -> Function:
    """Give a command the option --url, which `secateur` itself has too: it may be typed before and after its name."""

    @wraps(command)
    def with_url(*arguments: Any, url: str | None = None, **values: Any) -> None:
        name_service(url)
        command(*arguments, **values)

    signature = inspect.signature(command, eval_str=True)
    parameter = inspect.Parameter("url", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Url)
    parameters = [*signature.parameters.values(), parameter]
    with_url.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # PEP 362
    with_url.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return cast(Function, with_url)


def name_service(url: str | None) -> None:
    """From now on, `connect` means this service."""
    if url is not None:
        os.environ["SECATEUR_URL"] = url
