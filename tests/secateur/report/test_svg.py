"""The pieces that plots are drawn of."""

from __future__ import annotations

import pytest

from secateur.report.svg import Scale


@pytest.mark.parametrize("ends", [(13, 42), (0.5, 2.4), (14, 69), (14, 71), (0.3, 900), (1, 1e6)])
def test_a_logarithmic_axis_has_enough_round_values_and_not_too_many(ends: tuple[float, float]) -> None:
    found = Scale(*ends, 0, 100, log=True).ticks(6)
    assert 2 <= len(found) <= 8
    assert all(ends[0] <= value <= ends[1] for value in found)
