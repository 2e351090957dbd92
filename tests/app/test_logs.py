"""Secrets do not reach logs."""

from __future__ import annotations

import io
import logging

import pytest

from app.logs import Redacting, redact


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://user:p%40ss@host/db", "postgresql://user:***@host/db"),
        ("at redis://:secret@127.0.0.1:6379/0.", "at redis://:***@127.0.0.1:6379/0."),
        ("token hf_AbCdEf123456", "token ***"),
        ("Authorization: Bearer abc.def-123456", "Authorization: Bearer ***"),
        ("see https://host/a:b@c and step 3:4", "see https://host/a:b@c and step 3:4"),
    ],
)
def test_redact(text: str, expected: str) -> None:
    assert redact(text) == expected


def test_tracebacks_are_redacted_too() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Redacting())
    logger = logging.Logger("test")
    logger.addHandler(handler)
    try:
        raise ValueError("redis://:secret@host")
    except ValueError:
        logger.exception("cannot reach %s", "redis://:secret@host")
    assert "secret" not in stream.getvalue()
    assert stream.getvalue().count("redis://:***@host") == 3  # the message, the line of code, the exception
