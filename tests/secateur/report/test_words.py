from __future__ import annotations

from secateur.contract.results import PrunedFile
from secateur.report.words import figures_in_words, recovered_file_in_words


def test_what_a_stage_tells_of_itself() -> None:
    figures = {"step": 1500, "loss": 2.31234, "learning_rate": 1e-4, "what": "x"}
    assert figures_in_words(figures) == "step 1,500, loss 2.312, learning rate 0.0001, what x"


def test_a_file_that_was_rounded_is_told_with_where_its_figures_stand() -> None:
    file = PrunedFile(
        path="gguf/m-recovered.gguf", bytes_before=98_900_000, bytes_after=80_100_000, relative_error=0.02
    )
    sizes = "recover/gguf/m-recovered.gguf, 98.9 MB → 80.1 MB (−19.0 %)"
    assert recovered_file_in_words(file) == (
        f"{sizes}, rounded anew after recovery; its own figures are those of recovered-gguf"
    )
    assert recovered_file_in_words(file.model_copy(update={"relative_error": 0.0})) == (
        f"{sizes}, of the very weights of the recovered checkpoint, whose figures are its own"
    )
