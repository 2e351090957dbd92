"""When a request is repeated, and after how long."""

from __future__ import annotations

import pytest

from secateur.client.errors import (
    ChecksumMismatch,
    ClientError,
    NotFound,
    RateLimited,
    ServiceFailed,
    UnexpectedAnswer,
    Unreachable,
)
from secateur.client.requests import delay_before, jittered
from secateur.schemas.problem import Problem


def problem(status: int) -> Problem:
    return Problem(type="about:blank", title="T", status=status, detail="no")


@pytest.mark.parametrize(
    "error", [Unreachable("away"), RateLimited(problem(429)), ServiceFailed(problem(503)), ServiceFailed(problem(502))]
)
def test_each_wait_is_twice_the_one_before(error: ClientError) -> None:
    assert [delay_before(attempt, error) for attempt in (2, 3, 4)] == [0.5, 1.0, 2.0]


@pytest.mark.parametrize(
    "error",
    [ServiceFailed(problem(500)), NotFound(problem(404)), UnexpectedAnswer("html"), ChecksumMismatch("other bytes")],
)
def test_what_another_try_would_not_change_is_not_tried(error: ClientError) -> None:
    assert delay_before(2, error) is None


def test_the_service_may_ask_for_more_and_not_for_less() -> None:
    assert delay_before(2, RateLimited(problem(429), retry_after=20.0)) == 20.0
    assert delay_before(4, RateLimited(problem(429), retry_after=1.0)) == 2.0


def test_waits_are_spread_around_what_was_meant() -> None:
    waits = [jittered(8.0) for _ in range(500)]
    assert all(6.0 <= wait <= 10.0 for wait in waits)
    assert min(waits) < 7.0
    assert max(waits) > 9.0
