"""Messages of an event stream, line by line."""

from __future__ import annotations

from secateur.client.event_stream import EventReader, ServerSentEvent


def read(*lines: str) -> list[ServerSentEvent]:
    reader = EventReader()
    return [message for line in lines if (message := reader.feed(line)) is not None]


def test_a_message_ends_at_an_empty_line() -> None:
    assert read("id: 1", "event: log", "data: a", "data:b", "", "data: c", "", "data: cut off") == [
        ServerSentEvent("a\nb", "1"),
        ServerSentEvent("c", "1"),  # the id holds until there is another
    ]


def test_a_comment_comes_at_once_and_ends_nothing() -> None:
    assert read("data: a", ": ping", "") == [ServerSentEvent(comment=True), ServerSentEvent("a")]


def test_what_has_no_data_is_no_message() -> None:
    assert read("id: 7", "", "data: x", "") == [ServerSentEvent("x", "7")]


def test_only_one_space_is_taken_off_and_unknown_fields_are_passed_over() -> None:
    assert read("data:  two", "retry: 5", "colour: red", "") == [ServerSentEvent(" two")]
    assert read("id: a\0b", "data: x", "") == [ServerSentEvent("x")]
