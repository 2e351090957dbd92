"""How points of a sweep stand among each other, and which is recommended."""

from __future__ import annotations

from typing import Any

import pytest

from secateur.contract.jobs import State, Verdict
from secateur.contract.sweep_results import usual_pair
from tests.fixtures.reports import MODEL, benchmarks, make_one, pruned
from tests.fixtures.sweep_reports import GATES, measured, point, swept, usual


def test_front_dominated_and_recommended() -> None:
    report = swept(usual())
    assert (report.state, report.verdict) == (State.FAILED, Verdict.PASSED)
    assert [one.standing for one in report.points] == [
        *("front", "front", "front", "dominated", "front", "dominated", "front", "no result")
    ]
    assert report.front == [0, 1, 2, 4, 6]
    assert (report.points[3].dominated_by, report.points[3].shown) == (2, False)
    assert (report.points[5].dominated_by, report.points[5].shown) == (4, True)
    assert report.recommended == 2
    assert report.why == (
        "2 points pass all gates, and point 2 has the best speedup of them, 1.24× (1.22 to 1.26), at KL divergence "
        "0.360 (0.346 to 0.374). Within the intervals of it: point 3."
    )
    assert report.points[7].note == "The score stage ran out of memory."
    assert report.notes == ["Point 7 has failed, and can be retried."]
    assert report.points[2].figures["kl"].low == pytest.approx(0.3456)


def test_by_another_pair() -> None:
    report = swept(usual(), x="parameters", y="kl")
    assert (report.x.higher_is_better, report.y.higher_is_better) == (False, False)
    assert report.front == [0, 2, 4, 6]  # from the worst of x to the best, which is the smallest
    assert report.recommended == 2


def test_gates_on_speed_alone_ask_for_the_least_loss() -> None:
    gates = {"min_speedup": 1.15}
    points = [
        point(0, measured(1.24, 0.36, gates=gates)),
        point(1, measured(1.41, 0.71, gates=gates)),
        point(2, measured(1.05, 0.1, gates=gates)),
    ]
    report = swept(points, gates=gates)
    assert report.recommended == 0
    assert "best KL divergence" in report.why
    assert any("Quality is not judged" in note for note in report.notes)


def test_without_gates_nothing_is_recommended() -> None:
    report = swept([point(0, measured(1.2, 0.3, gates={}))], gates={"judge": "interval"})
    assert (report.recommended, report.verdict) == (None, Verdict.NONE)
    assert "No gates were set" in report.why


def test_no_point_passes() -> None:
    report = swept([point(0, measured(1.05, 0.3)), point(1, measured(1.3, 2.0)), point(2, measured(1.0, 2.0))])
    assert (report.recommended, report.verdict) == (None, Verdict.FAILED)
    assert report.why == ("None of 3 judged points passes all gates: `min_speedup` fails at 2, `max_kl` fails at 2.")


def test_while_others_run() -> None:
    running = point(1, None, state=State.RUNNING)
    report = swept([point(0, measured(1.3, 0.3)), running])
    assert (report.state, report.verdict, report.recommended) == (State.RUNNING, Verdict.NONE, 0)
    assert report.points[1].note == "its job is running"
    assert report.notes[0] == "1 of 2 points are over; this is what they have found so far."


def test_points_of_other_machines_texts_and_models_stand_apart() -> None:
    whole = benchmarks()
    elsewhere = whole.environment.model_copy(update={"threads": 64})
    other_text = [
        found.model_copy(update={"text": found.text.model_copy(update={"sha256": "ee" * 32})})
        for found in whole.variants[-1].fidelity
    ]
    variants = [*whole.variants[:-1], whole.variants[-1].model_copy(update={"fidelity": other_text})]
    far = measured(3.0, 0.01)  # better than all others in both figures, and yet no better: it ran elsewhere
    odd: list[Any] = [
        far.model_copy(update={"benchmarks": far.benchmarks.model_copy(update={"environment": elsewhere})}),
        make_one(benchmarks=whole.model_copy(update={"variants": variants}), gates=GATES),
        make_one(pruned=pruned(model=MODEL.model_copy(update={"fingerprint": "ab" * 32})), gates=GATES),
    ]
    like = [point(0, measured(1.3, 0.3)), point(1, measured(1.2, 0.2))]
    report = swept([*like, *(point(2 + number, one) for number, one in enumerate(odd))])
    assert [one.standing for one in report.points] == ["front", "front", "apart", "apart", "apart"]
    assert "on another machine" in report.points[2].note
    assert "64 threads" in report.points[2].note
    assert "on something else" in report.points[3].note
    assert "another model" in report.points[4].note
    assert sum("cannot be held against the others" in note for note in report.notes) == 3


def test_what_was_not_measured_is_said() -> None:
    whole = benchmarks()
    variants = [*whole.variants[:-1], whole.variants[-1].model_copy(update={"fidelity": []})]
    bare = make_one(benchmarks=whole.model_copy(update={"variants": variants}), gates={})
    report = swept([point(0, measured(1.3, 0.3, gates={})), point(1, bare)], gates={})
    assert (report.points[1].standing, report.points[1].note) == ("unmeasured", "KL divergence was not measured")
    assert usual_pair([point(0, bare)]) == ("speedup", "perplexity")
    assert usual_pair([point(0, measured(1.3, 0.3))]) == ("speedup", "kl")
    sizes = [variant.model_copy(update={"latency": [], "memory": None, "perplexity": [], "fidelity": [], "tasks": [],
             "generation": [], "sampled": None}) for variant in whole.variants]  # fmt: skip
    small = make_one(benchmarks=whole.model_copy(update={"variants": sizes}), gates={})
    assert usual_pair([point(0, small)]) == ("parameters", "weights_on_disk")
