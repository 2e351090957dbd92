"""SweepSpec: the body of `POST /sweeps`, one spec that becomes many, and the rules of a sweep's state.

A grid has a point for every combination of its values; a list has a point for every partial spec. Either way a point
is the spec with some values put in their places, checked as a job's spec is. What is wrong is told of the place in the
body where it was asked for (`sweep_errors.py`).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from secateur.contract.errors import FieldError, InvalidInput
from secateur.contract.jobs import State, Verdict
from secateur.contract.numbers import size
from secateur.contract.options.gates import Gates
from secateur.contract.options.labels import Label, LabelName
from secateur.contract.options.method import Options
from secateur.contract.shown import printable, shortened
from secateur.contract.sweep_presets import SWEEP_PRESETS, unfolded
from secateur.contract.validation_errors import pointer_of

_OWN = ("gates", "labels")  # sections of a job's spec that a sweep has for all of its points
_MOST_NESTED = 32  # objects within each other; a spec has eight

Path = tuple[str, ...]
SweepPresetName: Any = Literal[tuple(SWEEP_PRESETS)]


class SweepSpec(Options):
    """Many jobs that differ in what the grid or the list of points says, and in nothing else."""

    preset: SweepPresetName | None = Field(
        default=None,
        description="The points of a paper's comparison under one name, in place of `grid` and `points`; it also fills "
        "in what `spec` leaves out. `GET /catalog` lists them.",
    )
    spec: dict[str, Any] = Field(
        description="What all points have in common: the spec of a job, or that without what the points bring."
    )
    grid: dict[str, list[Any]] | None = Field(
        default=None,
        description="Fields of the spec, names with dots between them, each with its values; every combination is a "
        "point.",
        examples=[{"pruning.ratio": [0.1, 0.2, 0.3], "scoring.criterion": ["perplexity", "taylor"]}],
    )
    points: list[dict[str, Any]] | None = Field(
        default=None,
        description="In place of a grid: for each point the part of a spec that it changes. Objects are merged, and "
        "any other value takes the place of what is there.",
    )
    gates: Gates | None = Field(
        default=None, description="Limits that each point is judged by. In `spec` or here, not in both."
    )
    labels: dict[LabelName, Label] = Field(
        default_factory=dict, max_length=32, description="Of the sweep and of each of its jobs."
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, asked: Any) -> Any:
        name = asked.get("preset") if isinstance(asked, Mapping) else None
        if isinstance(name, str) and name in SWEEP_PRESETS and not {"grid", "points"} & asked.keys():
            return unfolded(asked, SWEEP_PRESETS[name])
        return asked

    @model_validator(mode="after")
    def _one_of(self) -> SweepSpec:
        if self.preset is not None:
            raise PydanticCustomError(
                "preset_and_points",
                "the preset `{preset}` has points of its own",
                {"preset": self.preset, "field": "preset", "expected": "a preset, a grid or a list of points"},
            )
        if (self.grid is None) == (self.points is None):
            words = "not both" if self.grid is not None else "of which there is none"
            raise PydanticCustomError(
                "grid_or_points",
                "give exactly one of `grid` and `points`, {words}",
                {"words": words, "field": "grid", "expected": "a grid, or a list of points"},
            )
        return self

    @model_validator(mode="after")
    def _gates_once(self) -> SweepSpec:
        if self.gates is not None and "gates" in self.spec:
            raise PydanticCustomError(
                "gates_twice",
                "gates stand in `spec` already, and all points are judged by the same",
                {"field": "gates", "expected": "`gates` here or in `spec`, not in both"},
            )
        return self


@dataclass(frozen=True)
class Source:
    """A value that a point brings: its path in the spec, and where it stands in the body."""

    path: Path
    asked: Path


@dataclass(frozen=True)
class Point:
    """One job of a sweep, before its spec is checked."""

    place: int  # among the points, from 0
    body: dict[str, Any]  # the spec of its job
    changes: dict[str, Any]  # what it differs in: "pruning.ratio" → 0.2
    sources: tuple[Source, ...]  # of these, and of what the body gives all points beside `spec`

    @property
    def words(self) -> str:
        return in_words(self.changes)


def in_words(changes: Mapping[str, Any]) -> str:
    """What a point differs in: "pruning.ratio 0.2, scoring.criterion taylor"."""
    shown = (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in changes.values())
    parts = (f"{shortened(path)} {shortened(value)}" for path, value in zip(changes, shown, strict=True))
    return printable(", ".join(parts)) or "the spec as it is"


@dataclass(frozen=True)
class Bounds:
    """How large a sweep may be, and which settings say so."""

    points: int = 1_000_000
    bytes: int = 1 << 30  # of the specs of all points together, as JSON
    points_setting: str = "this command's own limit"
    bytes_setting: str = "this command's own limit"


def words_among(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each of these points differs in, without what is no number and one and the same wherever it stands, such as
    the text of all points of one method: "pruning.kind flap, pruning.ratio 0.2"."""
    values: dict[str, list[Any]] = {}
    for point in points:
        for name, value in point.items():
            values.setdefault(name, []).append(value)
    telling = {
        name
        for name, (first, *others) in values.items()
        if any(value != first for value in others) or (isinstance(first, int | float) and not isinstance(first, bool))
    }
    return [in_words({name: point[name] for name in point if name in telling} or point) for point in points]


def unfold(asked: SweepSpec, bounds: Bounds) -> list[Point]:
    """The points, in the order of the list, or with the last field of the grid changing first.

    What is too many or too much is refused by its count, before it is unfolded.

    Raises:
        InvalidInput: there are none or too many, or too much together, or a path is none.
    """
    if asked.grid is not None:
        return _of_grid(asked, asked.grid, bounds)
    points = asked.points or []
    if not points:
        raise InvalidInput.field("/points", "there is no point", value=points, expected="at least one partial spec")
    if len(points) > bounds.points:
        raise _too_many("/points", f"the list has {len(points):,} points", len(points), bounds)
    _refuse_too_much("/points", asked, len(points), sum(map(_size, points)), bounds)
    return [_of_list(asked, place, change) for place, change in enumerate(points)]


def _of_grid(asked: SweepSpec, grid: Mapping[str, Sequence[Any]], bounds: Bounds) -> list[Point]:
    if not grid:
        raise InvalidInput.field("/grid", "the grid is empty", value={}, expected="at least one field with its values")
    errors = [error for name, values in grid.items() if (error := _bad_axis(name, values, grid.keys()))]
    if errors:
        raise InvalidInput.fields(errors)
    count = 1
    for values in grid.values():
        count *= len(values)
        if count > 10**9:  # and the number itself says no more
            break
    if count > bounds.points:
        words = f"the grid has {count:,} points" if count <= 10**9 else "the grid has more than 1,000,000,000 points"
        raise _too_many("/grid", words, min(count, 10**9), bounds)
    varying = sum(count // len(values) * sum(map(_size, values)) for values in grid.values())
    _refuse_too_much("/grid", asked, count, varying, bounds)
    axes = [[(name, place, value) for place, value in enumerate(values)] for name, values in grid.items()]
    return [
        _point(
            asked,
            place,
            {name: value for name, _, value in chosen},
            tuple(Source(path_of(name), ("grid", name, str(at))) for name, at, _ in chosen),
        )
        for place, chosen in enumerate(itertools.product(*axes))
    ]


def _bad_axis(name: str, values: Sequence[Any], names: Collection[str]) -> FieldError | None:
    pointer, path = pointer_of(("grid", name)), path_of(name)
    if not all(path) or len(path) > _MOST_NESTED:
        detail = f"`{shortened(name)}` is no field of a spec"
        return FieldError(pointer, detail, name, "names with dots between them, such as pruning.ratio")
    if path[0] in _OWN:
        return FieldError(pointer, _shared(path[0]), name, f"`{path[0]}` beside `grid`")
    if not values:
        return FieldError(pointer, f"`{name}` has no value", [], "at least one value")
    above = next((".".join(path[:end]) for end in range(1, len(path)) if ".".join(path[:end]) in names), None)
    if above is not None:
        detail = f"`{name}` is a part of `{above}`, which the grid sets as well"
        return FieldError(pointer, detail, name, "fields of which none is a part of another")
    seen: set[str] = set()
    for at, value in enumerate(values):
        written = json.dumps(value, sort_keys=True)
        if written in seen:
            detail = f"`{name}` has this value twice, so points would be equal"
            return FieldError(pointer_of(("grid", name, at)), detail, value, "each value once")
        seen.add(written)
    return None


def _of_list(asked: SweepSpec, place: int, change: Mapping[str, Any]) -> Point:
    for name in _OWN:
        if name in change:
            raise InvalidInput.field(
                f"/points/{place}/{name}", _shared(name), value=change[name], expected=f"`{name}` beside `points`"
            )
    leaves = dict(_leaves(change, (), at=("points", str(place))))
    sources = tuple(Source(path, ("points", str(place), *path)) for path in leaves)
    return _point(asked, place, {".".join(path): value for path, value in leaves.items()}, sources)


def _leaves(change: Mapping[str, Any], path: Path, *, at: Path) -> Iterator[tuple[Path, Any]]:
    """The values that are no objects, or empty ones, by their paths."""
    if len(path) > _MOST_NESTED:
        raise InvalidInput.field(
            pointer_of((*at, *path[:1])), "objects are nested too deeply", expected="the shape of a job's spec"
        )
    for name, value in change.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*path, name), at=at)
        else:
            yield (*path, name), value


def _point(asked: SweepSpec, place: int, changes: dict[str, Any], sources: tuple[Source, ...]) -> Point:
    body = dict(asked.spec)
    for source, value in zip(sources, changes.values(), strict=True):
        body = _with(body, source, value)
    measured = body.get("benchmark", {})
    if isinstance(measured, dict):  # so that a sweep which is repeated takes its figures over
        body["benchmark"] = {"reuse_measurements": True, **measured}
    if asked.gates is not None:
        body["gates"] = asked.gates.model_dump(mode="json")
        sources = (*sources, Source(("gates",), ("gates",)))
    if asked.labels:
        own = body.get("labels")
        body["labels"] = {**(own if isinstance(own, dict) else {}), **asked.labels}
    return Point(place, body, changes, sources)


def _with(body: Mapping[str, Any], source: Source, value: Any) -> dict[str, Any]:
    """A copy of `body` with the value at its path; objects on the way are made where there are none."""
    whole = dict(body)
    here = whole
    for depth, name in enumerate(source.path[:-1]):
        inner = here.get(name)
        if inner is not None and not isinstance(inner, dict):
            through = pointer_of(source.path[: depth + 1])
            detail = f"`{'.'.join(source.path)}` goes through {through} of the spec, which is no object"
            raise InvalidInput.field(pointer_of(source.asked), detail, value=value, expected="a field of an object")
        here[name] = dict(inner or {})
        here = here[name]
    here[source.path[-1]] = value
    return whole


def path_of(name: str) -> Path:
    """The path of a field: "pruning.ratio" → ("pruning", "ratio")."""
    return tuple(name.split("."))


def _shared(name: str) -> str:
    return f"`{name}` are the sweep's own, the same for all points"


def _too_many(pointer: str, words: str, count: int, bounds: Bounds) -> InvalidInput:
    most = bounds.points
    return InvalidInput.field(
        pointer,
        f"{words}; a sweep has at most {most:,} ({bounds.points_setting})",
        value=count,
        expected=f"at most {most:,} points",
    )


def _refuse_too_much(pointer: str, asked: SweepSpec, count: int, varying: int, bounds: Bounds) -> None:
    """Each point has a copy of what all have in common, so a long spec makes of a short body a large sweep.

    Args:
        varying: bytes of what the points bring, all together.
    """
    together = count * _size(asked.spec) + varying
    if together <= bounds.bytes:
        return
    raise InvalidInput.field(
        pointer,
        f"the specs of {count:,} points take {size(together)} together; those of a sweep may take "
        f"{size(bounds.bytes)} ({bounds.bytes_setting})",
        value=together,
        expected=f"at most {bounds.bytes:,} bytes: fewer points, or a shorter spec, such as one that names a data set "
        "in place of long lists",
    )


def _size(value: Any) -> int:
    """Bytes as JSON."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace"))


# --- the state of a sweep, which follows from its jobs -------------------------------------------------------------


def state_of(states: Mapping[State, int]) -> State:
    """The state of a sweep whose jobs stand so: over when all of them are, and failed if one has failed.

    One point fails no other, so a sweep that has failed may have a report, and its verdict stands apart.
    """
    there = {state for state, count in states.items() if count}
    if State.CANCELLING in there:
        return State.CANCELLING
    if not all(state.terminal for state in there):
        return State.QUEUED if there == {State.QUEUED} else State.RUNNING
    return next((state for state in (State.FAILED, State.CANCELLED) if state in there), State.SUCCEEDED)


def verdict_of(state: State, verdicts: Mapping[Verdict, int]) -> Verdict:
    """Passed if a point passes all gates, failed if none does; none before the end, without gates, and without reports.

    Args:
        verdicts: how many jobs have each.
    """
    if not state.terminal:
        return Verdict.NONE
    return next((verdict for verdict in (Verdict.PASSED, Verdict.FAILED) if verdicts.get(verdict)), Verdict.NONE)
