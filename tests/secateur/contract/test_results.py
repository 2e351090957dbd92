"""What a result says where nothing was said, and the scores with the choice that was made by them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from secateur.contract.measurements import LatencyCell, TaskScore
from secateur.contract.report import REPORT_SCHEMA_VERSION
from secateur.contract.results import Pruned, Scored, with_choice
from tests.fixtures.reports import latency_cell, make_one, pruned, scores


def scored() -> Scored:
    given = scores().model_dump(exclude={"drop", "protected"})
    return Scored.model_validate(given | {"options": {"criterion": "perplexity"}})


@pytest.mark.parametrize(("made", "drop", "protected"), [(None, [], []), (True, [10, 17], [0, 1])])
def test_scores_and_the_choice_by_them(made: Any, drop: list[int], protected: list[int]) -> None:
    by = pruned(dropped=drop, protected=protected) if made else None
    chosen = with_choice(scored(), by, scoring={"criterion": "perplexity", "plus": False})
    assert (chosen.drop, chosen.protected) == (drop, protected)
    assert chosen.options == {"criterion": "perplexity", "plus": False}
    assert chosen.model_dump(exclude={"drop", "protected", "options"}) == scored().model_dump(exclude={"options"})


def given(value: Any, *names: str) -> dict[str, Any]:
    return {name: item for name, item in value.model_dump().items() if name not in names}


def test_what_was_not_said() -> None:
    task = make_one().benchmarks.variants[0].tasks[0]
    task = TaskScore.model_validate(given(task, "headline", "filter", "drop", "p_value"))
    assert (task.headline, task.filter, task.drop, task.p_value) == (True, "none", None, None)
    cell = LatencyCell.model_validate(given(latency_cell(20), "compiled", "static_cache", "speedup", "noise"))
    assert (cell.compiled, cell.static_cache, cell.speedup, cell.noise) == (False, False, None, None)
    bare = Pruned.model_validate(
        given(pruned(), "needs_loader", "decilm", "gguf", "units", "widths", "protected", "notes")
    )
    assert (bare.needs_loader, bare.gguf, bare.units, bare.widths, bare.protected) == (False, None, [], [], [])
    assert make_one().schema_version == REPORT_SCHEMA_VERSION == "1.0"


def test_a_result_is_not_changed_and_holds_nothing_else() -> None:
    with pytest.raises(ValidationError):
        scores().criterion = "taylor"
    with pytest.raises(ValidationError):
        Scored.model_validate(given(scored()) | {"more": 1})
