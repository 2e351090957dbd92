from __future__ import annotations

from secateur.contract.results import PrunedFile
from secateur.report.words import figures_in_words, recovered_file_in_words


def test_what_a_stage_tells_of_itself() -> None:
    figures = {"step": 1500, "loss": 2.31234, "learning_rate": 1e-4, "what": "x"}
    assert figures_in_words(figures) == "step 1,500, loss 2.312, learning rate 0.0001, what x"


def test_a_file_that_was_quantised_anew_is_not_told_as_what_was_measured() -> None:
    file = PrunedFile(path="gguf/m-recovered.gguf", bytes_before=98_900_000, bytes_after=80_100_000)
    assert recovered_file_in_words(file) == (
        "recover/gguf/m-recovered.gguf, 98.9 MB → 80.1 MB (−19.0 %), quantised anew after recovery; the recovered "
        "model's figures are of the checkpoint that it was made of"
    )
