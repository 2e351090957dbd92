"""What is wrong with the points of a sweep, told of the places in the body where it was asked for.

A point's spec is made of the body's parts, and an error in it names a field of the spec. The same slip may stand in
every point, or in those alone in which two values meet. Each is told once: at the value of the grid or the part of the
list that brings it, else in `spec`; and with the first point that has it, where others bring the same without the slip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import ValidationError

from secateur.contract.errors import FieldError, InvalidInput
from secateur.contract.spec import CompressionSpec
from secateur.contract.sweep import Path, Point
from secateur.contract.validation_errors import field_errors, pointer_of

MOST_ERRORS = 50  # that are told
_MOST_OF_ONE = 50  # of one point that are looked at: a body may have thousands


@dataclass(frozen=True)
class _Slip:
    point: Point
    error: FieldError
    unknown: bool = False  # whether the field does not exist

    @property
    def place(self) -> Path:
        """Where in the body it stands."""
        path = tuple(part.replace("~1", "/").replace("~0", "~") for part in self.error.pointer.split("/")[1:])
        for source in self.point.sources:
            common = min(len(path), len(source.path))
            if path and path[:common] == source.path[:common]:
                return (*source.asked, *path[len(source.path) :])
        return ("spec", *path)


def checked_specs(points: Sequence[Point]) -> list[CompressionSpec]:
    """The spec of each point, of which no two are equal. Raises InvalidInput."""
    specs: list[CompressionSpec] = []
    slips: list[_Slip] = []
    for point in points:
        try:
            specs.append(CompressionSpec.model_validate(point.body))
        except ValidationError as errors:
            slips += [
                _Slip(point, field, unknown=error["type"] == "extra_forbidden")
                for error in errors.errors()[:_MOST_OF_ONE]
                for field in field_errors(CompressionSpec, [error])
            ]
    if slips:
        raise _told(points, slips)
    seen: dict[str, Point] = {}
    for point, spec in zip(points, specs, strict=True):
        first = seen.setdefault(spec.model_dump_json(), point)
        if first is not point:
            pointer = "/grid" if point.sources[:1] and point.sources[0].asked[0] == "grid" else f"/points/{point.place}"
            detail = f"points {first.place} and {point.place} are equal ({point.words})"
            raise InvalidInput.field(pointer, detail, value=point.changes, expected="points that differ")
    return specs


def refuse(points: Sequence[Point], found: Mapping[int, InvalidInput]) -> None:
    """Raises, where anything was `found` wrong with the point of some place, all of it as one error of its kind."""
    if found:
        slips = [_Slip(points[place], error) for place, wrong in found.items() for error in wrong.errors]
        raise _told(points, slips, kind=type(next(iter(found.values()))))


def _told(points: Sequence[Point], slips: Sequence[_Slip], *, kind: type[InvalidInput] = InvalidInput) -> InvalidInput:
    groups: dict[tuple[Path, str], list[_Slip]] = {}
    for slip in slips:
        place = slip.place
        whole_axis = slip.unknown and place[0] == "grid"  # of a field that does not exist, no value is right
        groups.setdefault((place[:2] if whole_axis else place, slip.error.detail), []).append(slip)
    errors = [_error(place, group, points) for (place, _), group in list(groups.items())[:MOST_ERRORS]]
    return kind.fields(errors, count=len(groups))


def _error(place: Path, group: Sequence[_Slip], points: Sequence[Point]) -> FieldError:
    first = group[0]
    everywhere = len(group) == sum(_brings(point, place) for point in points)
    if everywhere:
        return replace(first.error, pointer=pointer_of(place))
    detail = f"in point {first.point.place} ({first.point.words}): {first.error.detail}"
    return replace(first.error, pointer=pointer_of(first.place), detail=detail)


def _brings(point: Point, place: Path) -> bool:
    """Whether what stands at this place of the body is a part of the point."""
    if place[0] not in ("grid", "points"):
        return True
    return any(place[: len(source.asked)] == source.asked[: len(place)] for source in point.sources)
