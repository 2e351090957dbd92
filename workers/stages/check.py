"""The check stage, the first of every job: what cannot work is told in seconds, all of it at once.

It brings the model to this machine (a download or a GGUF import is kept for the stages that follow), and then looks at
everything that a later stage would stumble over: the model, its tokenizer, what is to be pruned, recovered and
quantised, the texts, the tasks. The rows stand in `checks/table.py`.
"""

from __future__ import annotations

import time

from secateur.contract.errors import FieldError, InvalidInput
from secateur.contract.results import Check, Checked
from workers.engine.blame import blamed_on
from workers.engine.runtime import environment
from workers.stages.checks.subject import Subject, model_field
from workers.stages.checks.table import CHECKS, Row
from workers.stages.context import StageContext
from workers.stages.fields import MODEL, PRUNING, told_in
from workers.stages.original import open_original, prepare_machine


def run(context: StageContext) -> Checked:
    """Look at the whole job.

    Raises:
        InvalidInput, BadCheckpoint, UnsupportedModel: names every field that cannot be met.
        Unavailable: the hub does not answer.
    """
    began = time.monotonic()
    machine = prepare_machine(context)
    pointer, name = model_field(context.stage.spec)
    with blamed_on(pointer, "The model cannot be opened", value=name, expected=CHECKS[0].expected):
        try:
            with told_in("/model", MODEL):
                subject = Subject(context, machine, open_original(context))
        except InvalidInput as error:
            raise _named([error], model=(pointer, name)) from error
    passed: list[Check] = []
    failures: list[InvalidInput] = []
    for done, row in enumerate(CHECKS, start=1):
        started = time.monotonic()
        try:
            with context.part(row.name):
                seen = _look(row, subject)
        except InvalidInput as error:
            failures.append(error)
            if row.decisive:
                break
        else:
            if seen is not None:
                passed.append(Check(name=row.name, seen=seen, seconds=time.monotonic() - started))
                context.log(f"{row.name}: {seen}")
        context.progress(done, len(CHECKS), "checks")
    if failures:
        raise _named(failures, model=(pointer, name))
    return Checked(
        checks=passed,
        model=subject.original.info,
        target_model=None if subject.target is None else subject.target.info,
        seconds=time.monotonic() - began,
        environment=environment(machine),
    )


def _look(row: Row, subject: Subject) -> str | None:
    with (
        told_in(row.pointer, {**MODEL, **PRUNING, **row.fields(subject.spec)}),
        blamed_on(row.pointer, f"The {row.name} cannot be used", expected=row.expected),
    ):
        return row.look(subject)


def _named(failures: list[InvalidInput], *, model: tuple[str, str]) -> InvalidInput:
    """All failures as one error, each at its field; what names none is the model's own fault."""
    pointer, name = model
    fields: list[FieldError] = []
    for failure in failures:
        for field in failure.errors or [FieldError(pointer, failure.detail, name, CHECKS[0].expected)]:
            if field not in fields:  # a tokenizer that cannot be loaded is in the way of every text
                fields.append(field)
    first = failures[0]
    if len(failures) == 1:
        return type(first)(first.detail, errors=fields)
    kind = type(first) if len({type(failure) for failure in failures}) == 1 else InvalidInput
    detail = f"{len(fields)} fields cannot be used" if len(fields) > 1 else fields[0].detail
    return kind(detail, errors=fields)
