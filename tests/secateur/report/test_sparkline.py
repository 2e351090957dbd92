"""The small line beside words."""

from __future__ import annotations

import re

import pytest

from secateur.report.sparkline import HEIGHT, MOST_POINTS, WIDTH, sparkline


def points(markup: str) -> list[tuple[float, float]]:
    found = re.search(r'points="([^"]*)"', markup)
    assert found is not None
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in found[1].split())]


def test_it_goes_from_nothing_to_the_greatest_over_its_whole_width() -> None:
    assert points(sparkline([0, 5, 10])) == [(0, HEIGHT - 1), (WIDTH / 2, HEIGHT / 2), (WIDTH, 1)]
    assert 'aria-hidden="true"' in sparkline([1, 2])


def test_many_values_are_thinned_out_with_both_ends_kept() -> None:
    drawn = points(sparkline(list(range(1000))))
    assert len(drawn) == MOST_POINTS
    assert drawn[0] == (0, HEIGHT - 1)
    assert drawn[-1] == (WIDTH, 1)


@pytest.mark.parametrize("values", [[], [3.0], [0.0, 0.0]])
def test_what_is_no_line_is_not_drawn(values: list[float]) -> None:
    assert sparkline(values) == ""
