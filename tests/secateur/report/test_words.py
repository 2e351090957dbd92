from __future__ import annotations

from secateur.contract.results import PrunedFile
from secateur.report.words import choice_in_words, figures_in_words, recovered_file_in_words
from tests.fixtures.reports import chosen


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


def test_a_choice_is_told_with_every_set_and_its_figures() -> None:
    assert choice_in_words(chosen()) == (
        "blocks 13–18, where the criterion alone takes 10, 17, 20, 21, 24, 25. 3 sets healed on 6,656 tokens of "
        "news.txt, 0 to 0.6 and judged on 1,536 more, in 1 min 30 s: 10, 17, 20, 21, 24, 25 (the criterion's own): "
        "KL 0.940 pruned, 0.610 healed, 0.590 after 40 steps; 13–18 (run): KL 0.879 pruned, 0.282 healed, 0.251 after "
        "40 steps; 10, 17, 20, 21, 24, 26 (one block swapped): KL 0.950 pruned, 0.700 healed"
    )
    taken = chosen(dropped=chosen().own.blocks)
    assert choice_in_words(taken).startswith("blocks 10, 17, 20, 21, 24, 25, as by the criterion alone. 3 sets")
