"""`secateur submit`: flags or a file in, a job id out.

Its flags are made from the contract, whose classes take longer to load than all other commands together; so they are
made when the command is named, and not for `secateur --help`.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperCommand

from secateur.cli.job_ids import short
from secateur.cli.session import Exit, asks_service, connect, err, out, show_problem, usage
from secateur.cli.watch import follow
from secateur.contract.json_text import fault_of, load_json

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
    "text": str | None,
    "texts": list[str] | None,
    "off": bool | None,
}
_METAVARS = {"list": "N,N,…", "text": "TEXT", "texts": "TEXT", "strings": "STRING", "quantisations": "KIND"}


def _submit(
    model: Annotated[
        str | None, typer.Argument(help="A hub id (org/name), or a folder or .gguf file under the model roots.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="hub or local, where the name does not tell.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub model.")] = None,
    spec: Annotated[
        str | None, typer.Option(metavar="FILE", help="A job's spec as JSON, - for standard input; flags go on top.")
    ] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A label; repeatable.")] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same key gives the same job again, such as a CI run's id and commit.")
    ] = None,
    cancel_after: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Cancel the job if it is not over by then: 90s, 2h.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print the spec, if its fields are right, and submit nothing; `--spec -` takes it."
        ),
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the job until it is over.")] = False,
    **values: Any,
) -> None:
    """Submit a job and print its id.

    Only the model and how much to remove are needed; every other default is the service's. A TEXT is `self`,
    `FILE`, `FILE@START:STOP`, `upload:ID`, `wikitext2`, `ptb`, `c4` or
    `hub:ID,config=…,split=…,column=…`.
    """
    from secateur.cli.spec_flags import merge, parse_model

    try:
        body = merge(_read(spec), values)
        if model is not None:
            body["model"] = parse_model(model, source=source, revision=revision)
            if source is None:
                err.print(f"[dim]{_taken_for(body['model'])}[/]", soft_wrap=True)
        for pair in label or []:
            name, equals, value = pair.partition("=")
            if not equals:
                raise ValueError(f"--label {pair}: a label is written NAME=VALUE")
            body.setdefault("labels", {})[name] = value
        if "model" not in body:
            raise ValueError("name a MODEL, or give a --spec that does")
    except (ValueError, OSError) as error:
        raise usage(str(error)) from None
    if dry_run:
        _check(body)
        out.print_json(data=body)
        return
    with connect() as client:
        job = client.submit(body, idempotency_key=idempotency_key, cancel_after=cancel_after)
        print(job.id)
        if not watch:
            err.print(f"[dim]Follow it with[/] secateur watch {short(job.id)}")
            return
        follow(client, job.id)


def _taken_for(model: Mapping[str, Any]) -> str:
    """What the model's name was read as, in a sentence."""
    if model["source"] == "local":
        return f"{escape(model['path'])} is read as a local path, under the service's model roots (else: --source hub)"
    return f"{escape(model['id'])} is read as a model of the hub (else: --source local)"


def _check(body: dict[str, Any]) -> None:
    """End the command, as the service's refusal would, where the spec's fields are wrong."""
    from pydantic import ValidationError

    from secateur.contract.errors import InvalidInput
    from secateur.contract.spec import CompressionSpec
    from secateur.contract.validation_errors import explain
    from secateur.schemas.problem import Problem

    try:
        CompressionSpec.model_validate(body)
    except ValidationError as error:
        fields = explain(CompressionSpec, error.errors())
        detail = fields[0].detail if len(fields) == 1 else f"{len(fields)} fields cannot be used"
        show_problem(Problem.model_validate(InvalidInput(detail, errors=fields).to_problem()))
        raise typer.Exit(Exit.USAGE) from None


def _read(spec: str | None) -> dict[str, Any]:
    if spec is None:
        return {}
    text = sys.stdin.read() if spec == "-" else Path(spec).read_text(encoding="utf-8")
    try:
        found = load_json(text)
    except ValueError as error:
        raise ValueError(f"{spec} is no JSON: {fault_of(error)}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{spec} holds no JSON object")
    return found


def _parameter(flag: Flag) -> inspect.Parameter:
    declared = [flag.option]
    if flag.kind == "bool":
        declared = [f"{flag.option}/--no-{flag.option.removeprefix('--')}"]
    option = typer.Option(
        *declared, help=flag.help, rich_help_panel=flag.panel, metavar=_METAVARS.get(flag.kind), show_default=False
    )
    annotation: Any = Annotated.__class_getitem__((_TYPES[flag.kind], option))  # type: ignore[attr-defined]  # made at run time
    return inspect.Parameter(flag.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _with_flags() -> Callable[..., None]:
    """`_submit` with one parameter for each flag, as Typer reads parameters from a signature."""
    from secateur.cli.spec_flags import spec_flags

    signature = inspect.signature(_submit, eval_str=True)
    own = [parameter for parameter in signature.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
    parameters = [*own, *(_parameter(flag) for flag in spec_flags())]

    def submit(*arguments: Any, **values: Any) -> None:
        _submit(*arguments, **values)

    submit.__doc__ = _submit.__doc__
    submit.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # PEP 362
    submit.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return submit


class SubmitCommand(TyperCommand):
    """Stands in the list of commands, and has the command with its flags made once it is named."""

    @cached_property
    def _whole(self) -> Any:  # typer's own copy of click is no public name
        alone = typer.Typer(add_completion=False, rich_markup_mode=self.rich_markup_mode)
        alone.command(self.name)(asks_service(_with_flags()))
        return typer.main.get_command(alone)

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        return self._whole.make_context(info_name, args, parent, **extra)

    def get_params(self, ctx: Any) -> list[Any]:
        return list(self._whole.get_params(ctx))


def submit() -> None:
    """What `secateur --help` is told of the command."""


submit.__doc__ = _submit.__doc__
