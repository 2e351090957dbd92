"""What an error repeats can be printed, whatever a user's file holds."""

from __future__ import annotations

import math
from typing import Any

import pytest

from secateur.contract.errors import FieldError, InvalidInput
from secateur.contract.shown import first_line, printable, sentence, shortened, shown


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


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError(" \n one "), "one"),
        (ValueError(), "ValueError"),
        (ValueError("a\x01"), "a?"),
        (ValueError("x" * 300), "x" * 300),
        (ValueError("x" * 301), "x" * 299 + "…"),
    ],
)
def test_another_librarys_error_is_one_line(error: ValueError, line: str) -> None:
    assert first_line(error) == line


@pytest.mark.parametrize(
    ("value", "repeated"),
    [
        (None, None),
        (True, True),
        (0, 0),
        (2**63 - 1, 2**63 - 1),
        (1 - 2**63, 1 - 2**63),
        (2**63, "9223372036854775808"),
        (-(2**63), "-9223372036854775808"),
        (10**300, "1" + "0" * 198 + "…"),
        (0.5, 0.5),
        (math.inf, "inf"),
        (math.nan, "nan"),
        ("text", "text"),
        ("x" * 200, "x" * 200),
        ("x" * 201, "x" * 199 + "…"),
        ("\ud800", "?"),
        ({"a": 1}, {"a": 1}),
        ([1, 2], [1, 2]),
        ((1, 2), (1, 2)),
        (["x" * 196], ["x" * 196]),  # with brackets and quotation marks, 200
        (["x" * 197], "an array of 1 items"),
        ({"a": "x" * 200, "b": 1}, "an object of 2 fields"),
        ([math.nan], "an array of 1 items"),
        ({"a": object}, "an object of 1 fields"),
        (["\ud800"], "an array of 1 items"),
        (b"bytes", "b'bytes'"),
        (range(10**9), "range(0, 1000000000)"),
    ],
)
def test_a_wrong_value_is_repeated_as_json_and_briefly(value: Any, repeated: Any) -> None:
    found = shown(value)
    assert found == repeated
    assert type(found) is type(repeated)


def test_what_has_no_json_is_cut_too() -> None:
    assert shown(b"x" * 300) == "b'" + "x" * 197 + "…"
