"""Which points of a sweep are of one series, such as one method: what the marks of its plots tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from secateur.contract.sweep_report import PointResult
from secateur.report.sweep_table import change_in_words

_MOST_SERIES = 8  # that marks tell apart; more stay alike


@dataclass(frozen=True)
class Series:
    """The fields whose values marks tell apart, and what there is of them; none where all points are alike."""

    fields: tuple[str, ...]
    values: tuple[str, ...]

    def words(self, point: PointResult) -> str:
        """ "depth, taylor"."""
        return ", ".join(change_in_words(point.changes[name]) for name in self.fields if name in point.changes)

    def place(self, point: PointResult) -> int:
        """Of the point's value among all; 0 where all are alike."""
        return self.values.index(self.words(point)) if self.fields else 0


def _values(points: Sequence[PointResult]) -> dict[str, list[Any]]:
    """What each field is in the points that change it."""
    found: dict[str, list[Any]] = {}
    for point in points:
        for name, value in point.changes.items():
            found.setdefault(name, []).append(value)
    return found


def told_apart(points: Sequence[PointResult]) -> Series:
    """By all fields whose values are words, if these make few series, and else by the first of them.

    A field that has one value wherever it stands, such as the text of all width methods, tells nothing apart.
    """
    worded = [
        name
        for name, values in _values(points).items()
        if all(isinstance(value, str) for value in values) and len(set(values)) > 1
    ]
    for fields in (tuple(worded), tuple(worded[:1])):
        values = tuple(dict.fromkeys(Series(fields, ()).words(point) for point in points))
        if 1 < len(values) <= _MOST_SERIES:
            return Series(fields, values)
    return Series((), ())
