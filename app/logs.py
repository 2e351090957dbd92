"""Keeping secrets out of what is logged or shown: passwords in URLs, keys and tokens of known forms."""

from __future__ import annotations

import logging
import re

_HIDDEN = "***"
_PATTERNS = (
    (re.compile(r"(?<=://)([^\s/:@'\"]*):([^\s/@'\"]+)(?=@)"), rf"\1:{_HIDDEN}"),  # scheme://user:password@host
    (re.compile(r"\bhf_[A-Za-z0-9]{8,}"), _HIDDEN),  # the hub's tokens
    (re.compile(r"(?i)\b(bearer\s+)[A-Za-z0-9._~+/=-]{8,}"), rf"\1{_HIDDEN}"),
)


def redact(text: str) -> str:
    """The text with passwords and tokens hidden."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


class Redacting(logging.Formatter):
    """Any formatter's output, tracebacks included, with secrets hidden."""

    def __init__(self, inner: logging.Formatter | None = None) -> None:
        super().__init__()
        self._inner = inner or logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return redact(self._inner.format(record))
