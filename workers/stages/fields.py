"""Which field of the spec an error of the engine is about.

The engine knows no spec: its errors name the argument that is wrong by a plain name, "calibration" or "text/path". The
stage knows from which field that argument came and says so here, once, where it calls the engine. What begins with a
slash is a field of the spec already, told by the contract or by a stage.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from secateur.contract.errors import FieldError, InvalidInput
from secateur.contract.options.recovery import DistillRecovery, Recovery

Fields = Mapping[str, str]  # an argument's name → the JSON pointer of the spec's field that it came from


def beneath(place: str, *names: str) -> dict[str, str]:
    """Arguments that came from fields of their own names: `beneath("/pruning", "ratio")`."""
    return {name: f"{place}/{name}" for name in names}


MODEL: Fields = {
    "model": "/model",
    "tokenizer": "/model",
    "weights": "/model",
    **beneath("/model", "id", "path", "revision"),
}
TARGET_MODEL: Fields = {name: pointer.replace("/model", "/target_model", 1) for name, pointer in MODEL.items()}
DRAFT = "/benchmark/draft"
NOBODYS = "is an argument that no stage has a field of the spec for"
PRUNING: Fields = beneath("/pruning", "blocks", "drop", "keep_first", "kind", "protected", "ratio", "units")
CALIBRATED_PRUNING: Fields = {"calibration": "/pruning/calibration", "weights": "/pruning"}
BENCHMARK: Fields = {
    "compile": "/benchmark/latency/compile",
    "folder": "/benchmark/tasks/folder",
    "items": "/benchmark/tasks",
    "tasks": "/benchmark/tasks/tasks",
}


def of_text(place: str, text: str | None = None) -> dict[str, str]:
    """Arguments of a token batch that the object at `place` asks for; `text` is its text's own place."""
    whole = {"batch": place, "calibration": place, "text": text or f"{place}/text"}
    return {**whole, "tokenizer": MODEL["tokenizer"], **beneath(place, "bos", "samples", "tokens")}


def of_recovery(options: Recovery) -> dict[str, str]:
    """Arguments of a recovery; what it trains is asked for by another field in each kind."""
    trained = "train" if isinstance(options, DistillRecovery) else "kind"
    return {
        **of_text("/recovery"),
        **beneath("/recovery", "format", "last_blocks", "neurons", "optimizer", "top_k", "validation"),
        "calibration": "/recovery/text",
        "trained": f"/recovery/{trained}",
    }


@contextmanager
def told_at(fields: Fields) -> Iterator[None]:
    """Errors over these arguments are told at their fields; other names are left to whoever called.

    A name with more behind it, such as "text/path", is of a part of the argument, and so of the field.
    """
    try:
        yield
    except InvalidInput as error:
        error.errors = [_placed(item, fields) for item in error.errors]
        raise


@contextmanager
def told_in(section: str, fields: Fields) -> Iterator[None]:
    """As `told_at`, for a whole stage: no name leaves it. One that is nobody's is told at the section."""
    try:
        with told_at(fields):
            yield
    except InvalidInput as error:
        for item in error.errors:
            if _is_name(item.pointer):
                nobodys(item.pointer, section)
        error.errors = [replace(item, pointer=section) if _is_name(item.pointer) else item for item in error.errors]
        raise


def nobodys(name: str, section: str) -> None:
    """An error names an argument that no stage has a field for: a fault of the program, and no loss to the user."""
    logging.getLogger(__name__).error(f"%r {NOBODYS}: %s is named instead.", name, section)


def _placed(item: FieldError, fields: Fields) -> FieldError:
    if not _is_name(item.pointer):
        return item
    name, slash, rest = item.pointer.partition("/")
    return replace(item, pointer=f"{fields[name]}{slash}{rest}") if name in fields else item


def _is_name(pointer: str) -> bool:
    """Whether it is no pointer yet; the empty one is the whole spec, or what stands outside it."""
    return pointer != "" and not pointer.startswith("/")
