"""Errors of the engine as the stages tell them: names of arguments become fields of the spec."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from secateur.contract.errors import FieldError, InvalidInput, UnsupportedModel
from workers.stages import fields
from workers.stages.fields import beneath, told_at, told_in


@contextmanager
def told_as(*pointers: str) -> Iterator[None]:
    with pytest.raises(InvalidInput) as caught:
        yield
    assert [error.pointer for error in caught.value.errors] == list(pointers)


def test_a_name_becomes_the_field_that_the_argument_came_from() -> None:
    with told_as("/pruning/calibration"), told_at({"calibration": "/pruning/calibration"}):
        raise InvalidInput.field("calibration", "Too short.")


def test_a_part_of_an_argument_is_a_part_of_its_field() -> None:
    with told_as("/recovery/text/path"), told_at(beneath("/recovery", "text")):
        raise InvalidInput.field("text/path", "No such file.")


def test_kind_words_and_value_of_an_error_stay() -> None:
    with pytest.raises(UnsupportedModel) as caught, told_at(beneath("/pruning", "kind")):
        raise UnsupportedModel.field("kind", "Experts.", value="mixtral", expected="a dense model")
    assert caught.value.detail == "Experts."
    assert caught.value.errors == [FieldError("/pruning/kind", "Experts.", "mixtral", "a dense model")]


def test_the_innermost_that_knows_a_name_tells_it() -> None:
    outer, inner = told_at({"text": "/x", "model": "/model"}), told_at({"text": "/quantise/1/text"})
    errors = [FieldError(name, "Wrong.") for name in ("text", "model", "", "/seed")]
    with told_as("/quantise/1/text", "/model", "", "/seed"), outer, inner:
        raise InvalidInput("Many.", errors=errors)


def test_a_name_that_is_nobodys_fails_a_test() -> None:
    with (
        pytest.raises(pytest.fail.Exception, match="'dampening' has no field"),
        told_in("/quantise", {"model": "/model"}),
    ):
        raise InvalidInput.field("dampening", "Too high.")


def test_a_name_that_is_nobodys_is_told_at_the_section(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.undo()  # what makes it fail a test
    with told_as("/quantise", "/model"), told_in("/quantise", {"model": "/model"}):
        raise InvalidInput("Wrong.", errors=[FieldError("dampening", "Too high."), FieldError("model", "Broken.")])
    assert [(record.levelno, record.args) for record in caplog.records] == [(logging.ERROR, ("dampening", "/quantise"))]
    assert fields.NOBODYS in caplog.text
