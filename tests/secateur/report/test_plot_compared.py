"""Curves of several jobs in one plot."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from secateur.contract.report import Report
from secateur.contract.results import BlockScore, LossPoint
from secateur.report.picture import Picture
from secateur.report.plot_compared import DASHES, compared
from secateur.report.plot_style import STYLE
from tests.fixtures.reports import make_one, recovered, scores

CURVE = [LossPoint(step=step, loss=2 + 1 / step, learning_rate=1e-4, validation_loss=3.0) for step in range(1, 9)]


def report(**changes: Any) -> Report:
    return make_one(scores=scores().model_copy(update=changes), recovered=recovered(curve=CURVE))


def by_key(pictures: list[Picture]) -> dict[str, Picture]:
    return {picture.key: picture for picture in pictures}


def told(picture: Picture) -> list[str]:
    return re.findall(r"<g><title>([^<]*)</title>", picture.drawings[0])


def test_each_plot_has_a_line_and_a_legend_for_each_job() -> None:
    found = by_key(compared([("one", report()), ("two", report())]))
    assert list(found) == ["compared-importance", "compared-loss", "compared-validation-loss"]
    for picture in found.values():
        assert [entry.words for entry in picture.legend] == ["one", "two"]
        assert picture.drawings[0].count("<polyline") == 2
        assert "one: " in told(picture)[0]


def test_no_two_of_five_jobs_look_alike_without_their_colours() -> None:
    jobs = [(f"job {number}", report()) for number in range(5)]
    legend = compared(jobs)[0].legend
    dashes = [entry.class_.split()[1] for entry in legend]
    assert len(set(dashes)) == len(legend) == DASHES
    assert len({(entry.shape, entry.class_) for entry in legend}) == 5
    for dash in dashes[1:]:
        assert f".{dash} {{ stroke-dasharray" in STYLE  # the first is a whole line
    assert all("<polyline" in entry.glyph for entry in legend)


def test_a_job_looks_alike_in_every_plot_also_where_another_has_no_curve() -> None:
    untrained = make_one(scores=scores(), recovered=None)
    found = by_key(compared([("one", report()), ("two", untrained), ("three", report())]))
    looks = {entry.words: (entry.shape, entry.class_) for entry in found["compared-importance"].legend}
    loss = found["compared-loss"].legend
    assert [entry.words for entry in loss] == ["one", "three"]
    assert all(looks[entry.words] == (entry.shape, entry.class_) for entry in loss)


def test_what_one_job_alone_has_is_no_comparison() -> None:
    assert compared([("one", report()), ("two", make_one(scores=None, recovered=None))]) == []


def test_different_criteria_are_compared_by_their_orders() -> None:
    one, two = report(), report(criterion="magnitude")
    alike = by_key(compared([("one", one), ("two", one)]))["compared-importance"]
    assert "score" in alike.drawings[0]
    picture = by_key(compared([("one", one), ("two", two)]))["compared-importance"]
    assert "place in the order of removal" in picture.drawings[0]
    assert "The criteria differ" in picture.caption
    assert one.scores is not None
    first = one.scores.order[0]
    assert f"one: 1.00 at block {first}" in told(picture)


def test_what_is_no_number_is_left_out() -> None:
    blocks = [BlockScore(block=number, value=math.inf if number == 3 else 1.0 + number) for number in range(30)]
    found = by_key(compared([("one", report(blocks=blocks)), ("two", report())]))
    assert len(told(found["compared-importance"])) == 29 + 30


def test_long_curves_keep_few_marks_at_different_places() -> None:
    curve = [LossPoint(step=step, loss=2 + 1 / step, learning_rate=1e-4) for step in range(1, 1001)]
    long = make_one(scores=None, recovered=recovered(curve=curve))
    (picture,) = compared([("one", long), ("two", long)])
    steps = [(words.split(":")[0], int(words.rpartition(" ")[2])) for words in told(picture)]
    assert 20 <= len(steps) <= 30
    assert not {step for name, step in steps if name == "one"} & {step for name, step in steps if name == "two"}


@pytest.mark.parametrize("name", ["<b>x</b>", 'a"b', "x & y"])
def test_names_are_escaped(name: str) -> None:
    for picture in compared([(name, report()), ("two", report())]):
        assert name not in "".join(picture.drawings)
