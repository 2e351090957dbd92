"""Runs of whole blocks, from which the joint search begins too."""

from __future__ import annotations

from secateur.contract.joint import WHOLE, Part
from workers.engine.scoring.joint_parts import runs_of


def test_runs_save_just_enough_and_stand_in_a_row() -> None:
    parts = {block: Part(block, WHOLE, 9 if block == 6 else 5) for block in (0, 1, 2, 4, 5, 6)}  # 3 may not go
    losses = {parts[block]: loss for block, loss in {0: 9.0, 1: 2.0, 2: 1.0, 4: 0.5, 5: 0.5, 6: 4.0}.items()}
    expected = [(4, 5), (1, 2), (5, 6), (0, 1)]
    assert runs_of(parts.values(), losses, 10) == [frozenset(parts[block] for block in run) for run in expected]
    assert runs_of(parts.values(), losses, 20) == []
    assert runs_of(parts.values(), losses, 9)[0] == frozenset({parts[4], parts[5]})
    assert frozenset({parts[6]}) in runs_of(parts.values(), losses, 9)
