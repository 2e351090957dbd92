"""A stage tells of its parts when they begin and when they are over, however they end."""

from __future__ import annotations

from typing import Any

import pytest

from workers.stages.context import StageContext, part


@part("outer")
def outer(context: StageContext, divisor: int) -> float:
    with context.part("inner"):
        return 1 / divisor


def told(divisor: int) -> list[tuple[str, str]]:
    events: list[Any] = []
    context = StageContext(None, events.append)  # type: ignore[arg-type]  # a part needs no spec
    if divisor:
        assert outer(context, divisor) == 1 / divisor
    else:
        with pytest.raises(ZeroDivisionError):
            outer(context, divisor)
    return [(event.name, event.state) for event in events]


def test_parts_lie_within_each_other() -> None:
    assert told(1) == [("outer", "began"), ("inner", "began"), ("inner", "succeeded"), ("outer", "succeeded")]


def test_what_broke_is_told_of_each_part_around_it() -> None:
    assert told(0) == [("outer", "began"), ("inner", "began"), ("inner", "failed"), ("outer", "failed")]
