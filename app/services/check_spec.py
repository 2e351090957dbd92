"""What can be told about a spec from the API host: the local model and the local texts that it names.

A hub model is looked up by its stage. On a host that does not see the workers' files, SECATEUR_CHECK_LOCAL=false
leaves local files to the stages too, which check everything again.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from app.domain.depth import check_depth
from app.domain.explain import pointer_of
from app.domain.options import DepthPruning, LocalText
from app.domain.spec import CompressionSpec, LocalModel
from app.errors import FieldError, InvalidInput
from app.services.local_files import find_under, inspect_model
from app.settings import Settings


def check_spec(spec: CompressionSpec, settings: Settings) -> None:
    """Refuse what no stage could do.

    Raises:
        InvalidInput: more blocks than the model has, a path outside the roots, a file that is not there.
        BadCheckpoint, UnsupportedModel: of the local model.
    """
    if not settings.check_local:
        return
    errors: list[FieldError] = []
    for pointer, text in _texts(spec, ()):
        try:
            real = find_under(
                text.path, settings.data_roots, pointer=pointer, what="text", setting="SECATEUR_DATA_ROOTS"
            )
        except InvalidInput as error:
            errors.extend(error.errors)
        else:
            if not real.is_file():
                errors.append(FieldError(pointer, "the path is not a file", text.path, "a UTF-8 text file"))
    try:
        _check_model(spec, settings)
    except InvalidInput as error:
        if not errors:
            raise
        errors = [*error.errors, *errors]
    if errors:
        raise InvalidInput(
            errors[0].detail if len(errors) == 1 else f"{len(errors)} fields cannot be used", errors=errors
        )


def _check_model(spec: CompressionSpec, settings: Settings) -> None:
    if not isinstance(spec.model, LocalModel):
        return
    info = inspect_model(spec.model.path, settings.model_roots)
    if info.blocks is not None and isinstance(spec.pruning, DepthPruning):
        check_depth(spec.pruning, info.blocks, plus=bool(getattr(spec.scoring, "plus", False)))


def _texts(value: object, path: tuple[str | int, ...]) -> Iterator[tuple[str, LocalText]]:
    """Every local text in the spec, with the pointer to its path."""
    if isinstance(value, LocalText):
        yield pointer_of((*path, "path")), value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _texts(getattr(value, name), (*path, name))
    elif isinstance(value, tuple):
        for i, item in enumerate(value):
            yield from _texts(item, (*path, i))
