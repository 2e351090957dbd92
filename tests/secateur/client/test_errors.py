"""What an answer says about when to come back."""

from __future__ import annotations

from secateur.client.errors import retry_after_seconds


def test_retry_after_as_a_date() -> None:
    assert retry_after_seconds("Tue, 24 Nov 2020 18:30:00 GMT") == 0.0
    assert retry_after_seconds("7") == 7.0
    assert retry_after_seconds("soon") is None
