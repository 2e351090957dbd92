"""Foreign text in Markdown.

Ids, labels and file names are untrusted, and a pull request renders Markdown and some HTML, links what looks like an
address and notifies whoever is named after an @. So every foreign word is either in a code span or escaped.
"""

from __future__ import annotations

import re

from secateur.contract.jobs import Verdict
from secateur.report.text import one_line, parted

SIGNS = {Verdict.PASSED: "✅", Verdict.FAILED: "❌", Verdict.NONE: "⚪"}
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~^$&])")
_LINKED = re.compile(r"@|#(?=\d)|:(?=//)|www(?=\.)", re.IGNORECASE)
_ZERO_WIDTH = "\u200b"  # after "@" and "#", within "://" and "www.": nobody is notified, nothing is linked


def escape(text: str) -> str:
    """Foreign text as plain words on one line."""
    return _escaped(one_line(text, limit=2000))


def _escaped(text: str) -> str:
    """The same of a part of a line, whose spaces at both ends stay."""
    words = _SPECIAL.sub(r"\\\1", text)
    return _LINKED.sub(lambda match: match[0] + _ZERO_WIDTH, words)


def prose(text: str) -> str:
    """Foreign text in which what stands between backticks is code."""
    parts = parted(one_line(text, limit=2000))
    return "".join(code(part) if is_code else _escaped(part) for part, is_code in parts)


def code(text: str) -> str:
    """Foreign text in a code span that it cannot leave; pipes are escaped, for tables."""
    words = one_line(text) or " "
    longest = max((len(run) for run in re.findall("`+", words)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if words.startswith("`") or words.endswith("`") else ""
    return f"{fence}{pad}{words}{pad}{fence}".replace("|", "\\|")
