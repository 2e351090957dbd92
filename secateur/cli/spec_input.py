"""What people type as a model, a file or a label, as parts of a body; and a look at the body before it is sent."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.markup import escape

from secateur.cli.session import Exit, err, show_problem, usage
from secateur.contract.json_text import fault_of, load_json

if TYPE_CHECKING:
    from pydantic import BaseModel

    Body = TypeVar("Body", bound=BaseModel)

Model = Annotated[
    str | None, typer.Argument(help="A hub id (org/name), or a folder or .gguf file under the model roots.")
]
Source = Annotated[str | None, typer.Option(help="hub or local, where the name does not tell.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub model.")]
Labels = Annotated[list[str] | None, typer.Option("--label", metavar="NAME=VALUE", help="A label; repeatable.")]
SpecFile = Annotated[
    str | None,
    typer.Option("--spec", metavar="FILE", help="A job's spec as JSON, - for standard input; flags go on top."),
]


def spec_of(
    values: Mapping[str, Any],
    *,
    model: str | None,
    source: str | None,
    revision: str | None,
    file: str | None,
    label: Sequence[str] | None,
) -> dict[str, Any]:
    """The spec that flags and file ask for; it ends the command where they cannot be read, or name no model."""
    from secateur.cli.spec_flags import merge

    try:
        body = merge(json_object(file), dict(values))
        if model is not None:
            body["model"] = named_model(model, source=source, revision=revision)
        if label:
            body.setdefault("labels", {}).update(labels_of(label))
        if "model" not in body:
            raise ValueError("name a MODEL, or give a --spec that does")
    except (ValueError, OSError) as error:
        raise usage(str(error)) from None
    return body


def named_model(model: str, *, source: str | None, revision: str | None) -> dict[str, Any]:
    """The model as the spec's object; what its name was taken for is told. Raises ValueError."""
    from secateur.cli.spec_flags import parse_model

    found = parse_model(model, source=source, revision=revision)
    if source is None:
        err.print(f"[dim]{_taken_for(found)}[/]", soft_wrap=True)
    return found


def _taken_for(model: Mapping[str, Any]) -> str:
    """What the model's name was read as, in a sentence."""
    if model["source"] == "local":
        return f"{escape(model['path'])} is read as a local path, under the service's model roots (else: --source hub)"
    return f"{escape(model['id'])} is read as a model of the hub (else: --source local)"


def labels_of(pairs: Sequence[str] | None) -> dict[str, str]:
    """NAME=VALUE, each. Raises ValueError."""
    for pair in pairs or []:
        if "=" not in pair:
            raise ValueError(f"--label {pair}: a label is written NAME=VALUE")
    return dict(pair.partition("=")[::2] for pair in pairs or [])


def json_object(file: str | None) -> dict[str, Any]:
    """The object in a file of JSON, or on standard input where it is `-`. Raises ValueError, OSError."""
    if file is None:
        return {}
    text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    try:
        found = load_json(text)
    except ValueError as error:
        raise ValueError(f"{file} is no JSON: {fault_of(error)}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{file} holds no JSON object")
    return found


def validated(kind: type[Body], body: Mapping[str, Any]) -> Body:
    """The body as the service reads it. Raises InvalidInput where fields are wrong."""
    from pydantic import ValidationError

    from secateur.contract.errors import InvalidInput
    from secateur.contract.validation_errors import field_errors

    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise InvalidInput.fields(field_errors(kind, error.errors())) from None


def look_at(check: Callable[[], object]) -> None:
    """End the command, as the service's refusal would, where the check raises InvalidInput."""
    from secateur.contract.errors import InvalidInput
    from secateur.schemas.problem import Problem

    try:
        check()
    except InvalidInput as error:
        show_problem(Problem.model_validate(error.to_problem()))
        raise typer.Exit(Exit.USAGE) from None
