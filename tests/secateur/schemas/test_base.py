"""What every response body does: times in UTC, read from rows, and never changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic import ValidationError

from secateur.schemas.base import Body, Timestamp


class Note(Body):
    at: Timestamp
    text: str = ""


@dataclass
class Row:
    at: datetime
    text: str
    more: int = 1


EAST = datetime(2026, 11, 24, 20, 30, 0, 500_000, tzinfo=timezone(timedelta(hours=2)))


def test_times_are_told_in_utc_wherever_they_come_from() -> None:
    for note in (Note(at=EAST), Note.model_validate({"at": EAST}), Note.model_validate(Row(EAST, ""))):
        assert note.at == EAST
        assert note.at.tzinfo is UTC
        assert note.model_dump(mode="json")["at"] == "2026-11-24T18:30:00.500000Z"


def test_a_time_that_is_read_keeps_its_instant() -> None:
    assert Note.model_validate_json('{"at": "2026-11-24T20:30:00.5+02:00"}').at == EAST


@pytest.mark.parametrize("wrong", [datetime(2026, 11, 24), "2026-11-24T18:30:00", "yesterday", None])
def test_a_time_without_its_zone_is_none(wrong: object) -> None:
    with pytest.raises(ValidationError) as refused:
        Note.model_validate({"at": wrong})
    assert refused.value.errors()[0]["loc"] == ("at",)


def test_a_row_is_read_by_attribute_and_what_else_it_has_is_left() -> None:
    assert Note.model_validate(Row(EAST, "a")).model_dump() == {"at": EAST, "text": "a"}


def test_a_body_is_not_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Note(at=EAST).text = "b"
