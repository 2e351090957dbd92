"""`secateur sweep`: flags, a grid or a file in, a sweep id out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from secateur.cli.ids import short
from secateur.cli.session import connect, err, out, usage
from secateur.cli.spec_command import spec_command
from secateur.cli.spec_input import (
    Labels,
    Model,
    Revision,
    Source,
    json_object,
    labels_of,
    look_at,
    named_model,
    validated,
)
from secateur.cli.sweep_view import end_unless_succeeded, watch_sweep


def _sweep(
    model: Model = None,
    source: Source = None,
    revision: Revision = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=V,V,…",
            help="A field of the spec and its values, such as pruning.ratio=0.1,0.2; repeatable, and every combination "
            "is a point. Values are JSON where they can be read so, else text; a JSON list holds them all.",
        ),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="The body of POST /sweeps as JSON, with `spec` and `grid` or `points`, - for standard input; flags go "
            "on top.",
        ),
    ] = None,
    label: Labels = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same key gives the same sweep again, such as a CI run's id and commit.")
    ] = None,
    cancel_after: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Cancel jobs that are not over by then: 90s, 2h.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print the body, if its fields are right, with the points of a preset written out, and submit "
            "nothing; `--file -` takes it.",
        ),
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the sweep until all points are over.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole sweep as JSON, in place of its id.")] = False,
    **values: Any,
) -> None:
    """Submit a sweep, many jobs that differ in some fields, and print its id.

    All other flags are those of `secateur submit`, and hold for every point. `--preset shortened_llama_figure_4` holds
    depth pruning against width pruning, as the paper does.
    """
    from secateur.cli.spec_flags import merge
    from secateur.contract.sweep_presets import SWEEP_PRESETS, unfolded

    try:
        body = json_object(file)
        axes = dict(_axis(text) for text in grid or [])
        if axes:
            body["grid"] = {**(body.get("grid") or {}), **axes}
        if values.get("preset") in SWEEP_PRESETS:  # the flag is that of a job's preset too
            body["preset"] = values.pop("preset")
        spec = dict(body.get("spec") or {})
        for section in dict.fromkeys(name.split(".")[0] for name in axes if "." in name):
            spec.setdefault(section, {})  # which method the values are of is filled in as for the flags
        body["spec"] = merge(spec, values)
        if model is not None:
            body["spec"]["model"] = named_model(model, source=source, revision=revision)
        if label:
            body["labels"] = {**body.get("labels", {}), **labels_of(label)}
        if not {"grid", "points", "preset"} & body.keys():
            raise ValueError(
                "say what varies: give a --grid, a --preset of sweeps, or a --file with `grid` or `points`"
            )
    except (ValueError, OSError) as error:
        raise usage(str(error)) from None
    if dry_run:
        look_at(lambda: _check(body))
        preset = SWEEP_PRESETS.get(body.get("preset", ""))
        out.print_json(data=unfolded(body, preset) if preset else body)
        return
    with connect() as client:
        made = client.sweeps.create(body, idempotency_key=idempotency_key, cancel_after=cancel_after)
        if not as_json:
            print(made.id)
        if watch:
            made = watch_sweep(client, made.id)
        if as_json:
            print(made.model_dump_json())
        if watch:
            end_unless_succeeded(made)
        else:
            err.print(f"[dim]{len(made.points)} points. Follow it with[/] secateur sweeps watch {short(made.id)}")


def _axis(text: str) -> tuple[str, list[Any]]:
    """ "pruning.ratio=0.1,0.2" → the field and its values. Raises ValueError."""
    name, equals, values = text.partition("=")
    if not name or not equals:
        raise ValueError(f"--grid {text}: a field with its values is written FIELD=V,V")
    whole = _value(values)
    return name, whole if isinstance(whole, list) else [_value(value.strip()) for value in values.split(",")]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _check(body: dict[str, Any]) -> Sequence[object]:
    """Raises InvalidInput where the service would refuse it without a look at the model."""
    from secateur.contract.sweep import Bounds, SweepSpec, unfold  # how large one may be, the service says
    from secateur.contract.sweep_errors import checked_specs

    return checked_specs(unfold(validated(SweepSpec, body), Bounds()))


sweep = spec_command(_sweep)
