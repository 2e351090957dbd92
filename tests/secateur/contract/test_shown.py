"""What an error repeats can be printed, whatever a user's file holds."""

from __future__ import annotations

import pytest

from secateur.contract.errors import FieldError, InvalidInput
from secateur.contract.shown import printable


@pytest.mark.parametrize(
    ("text", "line"),
    [("a model", "a model"), ("type \x01\x7f", "type ??"), ("two\nlines\t", "two lines "), ("\u202e\ud800 é", "?? é")],
)
def test_words_are_one_printable_line(text: str, line: str) -> None:
    assert printable(text) == line
    error = InvalidInput(text, errors=[FieldError("/model", text)])
    assert (error.detail, str(error), error.errors[0].detail) == (line, line, line)
    assert error.to_problem()["detail"] == error.to_problem()["errors"][0]["detail"] == line
