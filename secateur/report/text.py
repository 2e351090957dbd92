"""Text that others wrote, made fit for a report.

Model ids, labels, file names and above all generated samples are untrusted. Escaping for HTML, XML or Markdown is
each writer's own work; what all three need is here: no control characters (XML forbids them), no lone surrogates
(UTF-8 cannot hold them), and no directional overrides, which make a line read as something that it is not.
"""

from __future__ import annotations

import re

_REPLACEMENT = "\ufffd"
# C0 and C1 controls but tab and newline; bidirectional overrides and isolates; surrogates; non-characters
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def printable(text: str) -> str:
    """`text` with every character that is not fit for a document replaced by U+FFFD; line ends become newlines."""
    return _UNFIT.sub(_REPLACEMENT, text.replace("\r\n", "\n").replace("\r", "\n"))


def one_line(text: str, *, limit: int = 200) -> str:
    """`text` on one line, cut in its middle where it is longer than `limit` characters."""
    line = " ".join(printable(text).split())
    if len(line) <= limit:
        return line
    half = (limit - 1) // 2
    return f"{line[:half]}…{line[-half:]}"


def parted(words: str) -> list[tuple[str, bool]]:
    """A sentence in parts, each with whether it is code: what stands `between backticks`. A lone backtick is none."""
    parts = re.split(r"`([^`\n]+)`", words)
    return [(part, bool(place % 2)) for place, part in enumerate(parts) if part]


def listed(items: list[str]) -> str:
    """Words in a sentence: "a", "a and b", "a, b and c"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else "none"


def block_list(blocks: list[int]) -> str:
    """Block numbers with runs drawn together: [3, 4, 5, 9] → "3–5, 9"; "none" for an empty list."""
    runs: list[list[int]] = []
    for block in sorted(blocks):
        if runs and block == runs[-1][1] + 1:
            runs[-1][1] = block
        else:
            runs.append([block, block])
    parts = [f"{a}" if a == b else f"{a}, {b}" if b == a + 1 else f"{a}–{b}" for a, b in runs]
    return ", ".join(parts) or "none"


def plural(count: int, noun: str, several: str = "") -> str:
    """ "1 block", "6 blocks", "2 halves"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {several or f'{noun}s'}"
