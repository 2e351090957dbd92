from __future__ import annotations

from secateur.report.words import figures_in_words


def test_what_a_stage_tells_of_itself() -> None:
    figures = {"step": 1500, "loss": 2.31234, "learning_rate": 1e-4, "what": "x"}
    assert figures_in_words(figures) == "step 1,500, loss 2.312, learning rate 0.0001, what x"
