"""What an error repeats can be printed, whatever a user's file holds."""

from __future__ import annotations

import pytest

from secateur.contract.errors import FieldError, InvalidInput
from secateur.contract.shown import printable, sentence, shortened, shown


@pytest.mark.parametrize(
    ("text", "line"),
    [("a model", "a model"), ("type \x01\x7f", "type ??"), ("two\nlines\t", "two lines "), ("\u202e\ud800 é", "?? é")],
)
def test_words_are_one_printable_line(text: str, line: str) -> None:
    assert printable(text) == line
    error = InvalidInput(text, errors=[FieldError("/model", text)])
    assert (error.detail, str(error), error.errors[0].detail) == (line, line, line)
    assert error.to_problem()["detail"] == error.to_problem()["errors"][0]["detail"] == line


@pytest.mark.parametrize(
    ("text", "characters", "short"),
    [
        ("short", 5, "short"),
        ("One. Two words here.", 12, "One. Two …"),  # the first sentence is less than half
        ("One and two. Three words.", 20, "One and two. …"),
        ("One and two. Three words.", 14, "One and two. …"),
        ("One and two. Three words.", 13, "One and …"),
        ("a version 1.25 of it all", 14, "a version …"),
        ("x" * 20, 8, "xxxxxxx…"),
        ("of xxxxxxxxxxxxxxxxxx", 8, "of xxxx…"),  # a word's end stands in the first half alone
    ],
)
def test_no_word_is_cut_that_need_not_be(text: str, characters: int, short: str) -> None:
    assert shortened(text, characters) == short
    assert len(short) <= characters


def test_a_sentence_has_one_mark() -> None:
    assert [sentence(text) for text in ("so", "so.", "so …")] == ["so.", "so.", "so …"]


def test_a_number_that_python_does_not_write_is_shown() -> None:
    assert shown(10**5000) == "a number of 16,610 bits"
    assert shown(-(10**30)) == f"-1{'0' * 30}"
