"""The licence that a model comes under, by what its own files say: the hub's metadata, a GGUF file's keys.

What was made of the model is handed on under it, so its card has to say it. Files of strangers are read within bounds,
and what cannot be read says nothing: a model without a licence is pruned all the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from secateur.contract.results import Licence
from secateur.contract.shown import printable
from workers.engine.checkpoints.gguf_file import GgufHeader
from workers.engine.checkpoints.side_files import side_files
from workers.engine.plain_yaml import load_plain

CARD = "README.md"
_MOST_BYTES = 256 * 1024  # of a card, read in search of its metadata
_LONGEST = 500  # characters of an entry
_METADATA = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"(?i)(licen[cs]e|copying)[^/]*")


def licence_of_folder(folder: Path) -> Licence | None:
    """By the metadata at the beginning of the model card; failing that, by a file that holds the licence's text."""
    found = _of_entries(_metadata(folder / CARD), "license", "license_name", "license_link")
    if found is not None:
        return found
    texts = [str(path) for path in side_files(folder) if _FILE.fullmatch(str(path))]
    return Licence(name="other", link=printable(texts[0])) if texts else None


def licence_of_gguf(header: GgufHeader) -> Licence | None:
    """By the keys `general.license`, `general.license.name` and `general.license.link`."""
    values = {key: value.value for key, value in header.values.items() if key.startswith("general.license")}
    return _of_entries(values, "general.license", "general.license.name", "general.license.link")


def _of_entries(entries: Mapping[str, Any], name: str, title: str, link: str) -> Licence | None:
    found = _text(entries.get(name))
    if found is None:
        return None
    return Licence(name=found, title=_text(entries.get(title)), link=_text(entries.get(link)))


def _text(value: Any) -> str | None:
    """A word, or the first of a list, as the hub takes both; None of what is neither, or longer than any licence's."""
    if isinstance(value, list) and value:
        value = value[0]
    words = printable(value).strip() if isinstance(value, str) else ""
    return words if 0 < len(words) <= _LONGEST else None


def _metadata(card: Path) -> Mapping[str, Any]:
    """What stands between the two lines `---` with which a card on the hub begins; empty where that cannot be read."""
    try:
        with card.open("rb") as file:
            text = file.read(_MOST_BYTES).decode("utf-8", errors="replace")
        found = _METADATA.match(text)
        entries = load_plain(found[1]) if found else None
    except (OSError, ValueError):
        return {}
    return entries if isinstance(entries, dict) else {}
