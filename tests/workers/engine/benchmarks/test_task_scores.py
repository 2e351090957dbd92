"""Accuracies and drops, from which items were answered rightly."""

from __future__ import annotations

import numpy as np
import pytest

from workers.engine.benchmarks.task_scores import TaskRun, mcnemar, scores_of


def test_a_drop_is_judged_on_the_items_and_not_by_two_errors() -> None:
    generator = np.random.default_rng(0)
    right = (generator.random(400) < 0.6).astype(float)
    worse = right.copy()
    worse[np.flatnonzero(right)[:20]] = 0  # 20 items lost, none gained
    before, after = (
        TaskRun("t", "acc", {str(index): value for index, value in enumerate(values)}, 0, "1")
        for values in (right, worse)
    )
    (score,) = scores_of([after], [before])
    assert score.drop == pytest.approx(0.05)
    assert score.p_value == pytest.approx(2 * 0.5**20)
    assert score.drop_low is not None
    assert score.standard_error is not None
    assert 0 < score.drop_low < 0.05
    assert score.drop_low > 0.05 - 1.96 * 2**0.5 * score.standard_error  # two separate errors would not tell them apart
    assert mcnemar(right, right) == 1.0
