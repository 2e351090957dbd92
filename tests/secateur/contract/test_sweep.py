"""What a grid and a list of points become, and the state of a sweep."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from secateur.contract.errors import InvalidInput
from secateur.contract.jobs import State, Verdict
from secateur.contract.sweep import Bounds, Point, SweepSpec, in_words, state_of, unfold, verdict_of, words_among
from secateur.contract.sweep_errors import MOST_ERRORS, checked_specs, refuse

MODEL = {"source": "hub", "id": "org/m"}
DEPTH: dict[str, Any] = {"model": MODEL, "pruning": {"kind": "depth"}}


def points(spec: dict[str, Any], most: int = 256, **asked: Any) -> list[Point]:
    bounds = Bounds(points=most, points_setting="MOST")
    return unfold(SweepSpec.model_validate({"spec": spec, **asked}), bounds)


def told(spec: dict[str, Any], **asked: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidInput) as caught:
        checked_specs(points(spec, **asked))
    return [(error.pointer, error.detail) for error in caught.value.errors]


def test_every_combination_is_a_point_and_the_last_field_changes_first() -> None:
    found = points(DEPTH, grid={"pruning.blocks": [1, 2], "seed": [7, 8, 9]})
    assert [(point.body["pruning"]["blocks"], point.body["seed"]) for point in found] == [
        (blocks, seed) for blocks in (1, 2) for seed in (7, 8, 9)
    ]
    assert [point.place for point in found] == list(range(6))
    assert DEPTH == {"model": MODEL, "pruning": {"kind": "depth"}}  # which no point has changed
    assert checked_specs(found)[4].seed == 8


@pytest.mark.parametrize(
    ("pointer", "varying"),
    [
        ("/grid", {"grid": {"pruning.blocks": [1, 2], "seed": [7, 8, 9]}}),
        ("/points", {"points": [{"pruning": {"blocks": number}} for number in range(1, 7)]}),
    ],
)
def test_what_all_points_take_together_is_bounded(pointer: str, varying: dict[str, Any]) -> None:
    """By what the specs are as JSON, counted before there are any."""
    long = {**DEPTH, "labels": {"note": "x" * 200}}
    asked = SweepSpec.model_validate({"spec": long, **varying})
    whole = sum(len(json.dumps(point.body, separators=(",", ":"))) for point in unfold(asked, Bounds()))
    with pytest.raises(InvalidInput) as caught:
        unfold(asked, Bounds(bytes=1000, bytes_setting="BYTES"))
    (error,) = caught.value.errors
    assert error.pointer == pointer
    assert "6 points take" in error.detail
    assert "may take 1.00 kB (BYTES)" in error.detail
    assert isinstance(error.value, int)
    assert error.value == pytest.approx(whole, rel=0.25), "names of the fields that vary, and what is filled in, apart"
    assert len(unfold(asked, Bounds(bytes=error.value))) == 6


def test_objects_are_merged_and_other_values_replaced() -> None:
    spec = {**DEPTH, "benchmark": {"latency": {"batch_sizes": [1, 2], "runs": 5}, "tasks": None}}
    change = {"benchmark": {"latency": {"batch_sizes": [8]}, "samples": None}, "pruning": {"blocks": 2}}
    (point,) = points(spec, points=[change])
    assert point.body["benchmark"] == {
        "latency": {"batch_sizes": [8], "runs": 5}, "tasks": None, "samples": None, "reuse_measurements": True
    }  # fmt: skip
    assert point.changes == {
        "benchmark.latency.batch_sizes": [8], "benchmark.samples": None, "pruning.blocks": 2
    }  # fmt: skip


def test_objects_on_the_way_are_made() -> None:
    spec = {**DEPTH, "benchmark": {"latency": None}}
    (point,) = points({**spec, "pruning": {"kind": "depth", "blocks": 1}}, grid={"benchmark.latency.runs": [5]})
    assert point.body["benchmark"]["latency"] == {"runs": 5}


def test_gates_and_labels_are_those_of_all_points() -> None:
    spec = {**DEPTH, "labels": {"a": "1", "b": "2"}}
    found = points(spec, grid={"pruning.blocks": [1, 2]}, gates={"max_kl": 0.5}, labels={"b": "3"})
    for checked in checked_specs(found):
        assert checked.gates.max_kl == 0.5
        assert checked.labels == {"a": "1", "b": "3"}


def test_a_preset_may_vary() -> None:
    spec = {"model": MODEL, "pruning": {"kind": "depth", "blocks": 1}}
    one, two = checked_specs(points(spec, grid={"preset": ["quick", "shortened_llama"]}))
    assert (one.recovery.kind, two.recovery.kind) == ("healing", "lora")


def test_figures_may_be_taken_over_unless_said_otherwise() -> None:
    spec = {**DEPTH, "pruning": {"kind": "depth", "blocks": 1}}
    (checked,) = checked_specs(points(spec, grid={"seed": [1]}))
    assert checked.benchmark.reuse_measurements is True
    spec["benchmark"] = {"reuse_measurements": False}
    (checked,) = checked_specs(points(spec, grid={"seed": [1]}))
    assert checked.benchmark.reuse_measurements is False
    assert told({**spec, "benchmark": 7}, grid={"seed": [1]})[0][0] == "/spec/benchmark"


def test_a_slip_of_one_value_names_it() -> None:
    grid = {"pruning.ratio": [0.1, 1.2], "scoring.criterion": ["perplexity", "taylr"]}
    assert told(DEPTH, grid=grid) == [
        ("/grid/scoring.criterion/1", "unknown criterion 'taylr'; did you mean 'taylor'?"),
        ("/grid/pruning.ratio/1", "`ratio` must be a number, above 0 and below 1"),
    ]


def test_a_field_that_does_not_exist_is_one_slip() -> None:
    grid = {"pruning.ratoi": [0.1, 0.2, 0.3], "pruning.blocks": [1, 2]}
    assert told(DEPTH, grid=grid) == [("/grid/pruning.ratoi", "there is no field `ratoi` here; did you mean 'ratio'?")]


def test_a_slip_of_the_spec_is_told_once() -> None:
    assert told({**DEPTH, "sed": 1}, grid={"pruning.blocks": [1, 2]})[0][0] == "/spec/sed"
    assert told({"pruning": {"kind": "depth"}}, grid={"pruning.blocks": [1, 2]}) == [
        ("/spec/model", "`model` is required")
    ]


def test_a_slip_where_two_values_meet_names_the_point() -> None:
    grid = {"pruning.kind": ["depth", "flap"], "pruning.blocks": [1, 2]}
    found = dict(told({"model": MODEL}, grid=grid))
    assert found["/spec/pruning/ratio"] == ("in point 2 (pruning.kind flap, pruning.blocks 1): `ratio` is required")
    assert found["/grid/pruning.blocks/0"].startswith("in point 2 (pruning.kind flap, pruning.blocks 1): there is no")


def test_a_slip_of_a_partial_spec_names_it() -> None:
    partial = [{"pruning": {"blocks": 1}}, {"pruning": {"blocks": 0}}, {"pruning": {"blocks": 2}, "seed": -1}]
    assert [pointer for pointer, _ in told(DEPTH, points=partial)] == ["/points/1/pruning/blocks", "/points/2/seed"]


def test_points_that_are_equal_by_other_ways() -> None:
    grid = {"recovery": [{"kind": "none"}], "pruning.blocks": [2, 2.0]}
    ((pointer, detail),) = told(DEPTH, grid=grid)
    assert (pointer, detail) == ("/grid", 'points 0 and 1 are equal (recovery {"kind": "none"}, pruning.blocks 2.0)')


def test_not_all_slips_are_told() -> None:
    spec = {**DEPTH, **{f"more{number}": 1 for number in range(500)}}
    assert len(told(spec, grid={"pruning.blocks": [1]})) == MOST_ERRORS


def test_objects_within_objects_without_end() -> None:
    change: dict[str, Any] = {"x": 1}
    for _ in range(300):
        change = {"x": change}
    with pytest.raises(InvalidInput, match="nested too deeply") as caught:
        points(DEPTH, points=[{}, {"pruning": change}])
    assert caught.value.errors[0].pointer == "/points/1/pruning"


def test_what_was_found_out_later_is_told_alike() -> None:
    found = points(DEPTH, grid={"pruning.blocks": [1, 40], "seed": [1, 2]})
    wrong = InvalidInput.field("/pruning/blocks", "too many", value=40, expected="at most 3")
    refuse(found, {})
    with pytest.raises(InvalidInput) as caught:
        refuse(found, {2: wrong, 3: wrong})
    assert [(error.pointer, error.detail) for error in caught.value.errors] == [("/grid/pruning.blocks/1", "too many")]


def test_a_point_in_words() -> None:
    assert in_words({"pruning.ratio": 0.2, "scoring.plus": False, "scoring.criterion": "taylor"}) == (
        "pruning.ratio 0.2, scoring.plus false, scoring.criterion taylor"
    )
    assert in_words({}) == "the spec as it is"
    assert "\n" not in in_words({"a\nb": "c\nd"})
    assert len(in_words({"a": "x" * 5000})) < 200


def test_points_among_each_other_in_words() -> None:
    text = {"calibration.text.path": "a.txt", "scoring.plus": True}
    found: list[dict[str, Any]] = [
        {"pruning.kind": "depth", "pruning.blocks": 6},
        {"pruning.kind": "flap", "pruning.ratio": 0.2, **text},
        {"pruning.kind": "wanda_sp", "pruning.ratio": 0.2, **text},
    ]
    assert words_among(found) == [
        "pruning.kind depth, pruning.blocks 6",  # a number says how much, wherever it stands
        "pruning.kind flap, pruning.ratio 0.2",
        "pruning.kind wanda_sp, pruning.ratio 0.2",
    ]
    assert words_among([text]) == ["calibration.text.path a.txt, scoring.plus true"]  # there is nothing else to say
    assert words_among([{}]) == ["the spec as it is"]


@pytest.mark.parametrize(
    ("states", "state"),
    [
        ("queued queued", State.QUEUED),
        ("queued running", State.RUNNING),
        ("queued succeeded", State.RUNNING),
        ("failed queued", State.RUNNING),
        ("running cancelling", State.CANCELLING),
        ("succeeded succeeded", State.SUCCEEDED),
        ("succeeded failed cancelled", State.FAILED),
        ("succeeded cancelled", State.CANCELLED),
    ],
)
def test_the_state_follows_from_the_jobs(states: str, state: State) -> None:
    assert state_of(Counter(map(State, states.split()))) is state


def test_one_point_that_passes_is_enough() -> None:
    some = {Verdict.PASSED: 1, Verdict.FAILED: 3, Verdict.NONE: 1}
    assert verdict_of(State.FAILED, some) is Verdict.PASSED
    assert verdict_of(State.RUNNING, some) is Verdict.NONE
    assert verdict_of(State.SUCCEEDED, {Verdict.FAILED: 2, Verdict.PASSED: 0}) is Verdict.FAILED
    assert verdict_of(State.FAILED, {Verdict.NONE: 2}) is Verdict.NONE
