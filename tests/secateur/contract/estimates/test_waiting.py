"""When a waiting job is expected to begin and to end, by plain sums."""

from __future__ import annotations

from dataclasses import replace

import pytest

from secateur.contract.estimates.waiting import Expected, Held, Load, expected

A, B, C = ("score", "m"), ("prune", "m"), ("check", "m")
TIMES = {A: 100.0, B: 10.0, C: 1.0}
JOB = (C, A, B)  # 111 seconds
LOAD = Load(position=1, slots=1, has_begun=False, left=JOB, held=(), begun=(), turns=0, fresh=())


def test_where_a_worker_is_free_it_begins_at_once() -> None:
    assert expected(LOAD, TIMES) == Expected(0, 111)
    two = replace(LOAD, slots=2, held=(Held(A, 20),))
    assert expected(two, TIMES) == Expected(0, 111)


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({"held": (Held(A, 20),)}, 80),
        ({"held": (Held(A, 500),)}, 0),  # longer than such a stage takes: over any moment
        ({"held": (Held(A, 20),), "begun": (B,)}, 90),
        ({"held": (Held(A, 20), Held(A, 60)), "slots": 2, "begun": (B,)}, (80 + 40 + 10) / 2),
        ({"position": 3, "held": (Held(A, 20),), "begun": (B, B), "turns": 1, "fresh": (JOB, JOB)}, 80 + 20 + 111),
        ({"position": 3, "fresh": (JOB, (C, B))}, 2 * (111 + 11) / 2),
        ({"has_begun": True, "held": (Held(A, 20),), "begun": (A, B, B), "turns": 3, "position": 2}, 80 + 120 / 3),
    ],
)
def test_what_is_before_it_is_shared_among_the_workers(changes: dict[str, object], start: float) -> None:
    found = expected(replace(LOAD, **changes), TIMES)  # type: ignore[arg-type]
    assert found.start == pytest.approx(start)
    assert found.end == pytest.approx(start + 111)


def test_what_has_not_run_here_is_unknown() -> None:
    unknown = ("recover", "m")
    assert expected(replace(LOAD, left=(C, unknown)), TIMES) == Expected(0, None)
    assert expected(replace(LOAD, held=(Held(unknown, 1),)), TIMES) == Expected(None, None)
    assert expected(replace(LOAD, position=2, fresh=((unknown,),)), TIMES) == Expected(None, None)
    assert expected(replace(LOAD, position=2), TIMES) == Expected(None, None), "it is not known what is before it"
    assert expected(replace(LOAD, slots=0), TIMES) == Expected(None, None)
