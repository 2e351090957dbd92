"""The table of states: what may follow what, and which states are an end."""

from __future__ import annotations

import pytest

from secateur.contract.jobs import State, may_follow

ALLOWED = {
    "queued": {"running", "cancelled"},
    "running": {"succeeded", "failed", "cancelling", "queued"},
    "cancelling": {"cancelled"},
    "succeeded": set(),
    "failed": {"queued"},
    "cancelled": {"queued"},
}


@pytest.mark.parametrize("before", State)
def test_what_may_follow(before: State) -> None:
    assert {after.value for after in State if may_follow(before, after)} == ALLOWED[before.value]


def test_the_ends() -> None:
    assert {state.value for state in State if state.terminal} == {"succeeded", "failed", "cancelled"}
