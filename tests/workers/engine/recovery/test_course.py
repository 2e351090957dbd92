"""The curve of a training and its patience, by themselves."""

from __future__ import annotations

import json
import math

import pytest

from workers.engine.recovery.course import CURVE_POINTS, Course


def test_a_long_training_has_points_that_are_means() -> None:
    course, steps = Course(), 3 * CURVE_POINTS
    points = [course.took(float(step), rate=0.1, tokens=5, steps=steps) for step in range(1, steps + 1)]
    curve = [point for point in points if point is not None]
    assert curve == course.curve
    assert [point.step for point in curve[:4]] == [1, 3, 6, 9]
    assert [point.loss for point in curve[:4]] == [1.0, 2.5, 5.0, 8.0]
    assert len(curve) == CURVE_POINTS + 1
    assert (course.step, course.tokens) == (steps, 5 * steps)


def test_the_first_of_the_best_validations_is_remembered() -> None:
    course = Course()
    for step, loss in enumerate([3.0, 2.0, 2.0, 2.5], start=1):
        course.took(1.0, rate=0.1, tokens=1, steps=4)
        assert course.validated(loss).validation_loss == loss
        assert course.curve[-1].step == step
    assert (course.best_step, course.best_loss, course.worse) == (2, 2.0, 2)


@pytest.mark.parametrize("steps", [1, 7])
def test_it_comes_back_from_json(steps: int) -> None:
    course = Course(resumed_from=[3])
    for step in range(steps):
        course.took(math.pi * step, rate=0.1, tokens=1, steps=5 * CURVE_POINTS)
    again = Course.from_plain(json.loads(json.dumps(course.plain())))
    assert again == course
