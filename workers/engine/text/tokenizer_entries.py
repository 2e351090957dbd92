"""Which entry of the small files beside tokenizer.json is to blame for a tokenizer that cannot be loaded.

A library's error names neither file nor entry, and often only a type of Python's. So the tokenizer is loaded once more
without each entry in turn: the one without which it loads is to blame. It takes a load for each, and only a fault pays.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.engine.architectures.culprit import entry_to_blame
from workers.engine.blame import is_over_input

FILES = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
SECONDS = 60.0  # of searching: what is not found by then is told without an entry

_TOKEN = "a token as text, or an object with its text as `content`"
_SIDE = '"left" or "right"'
_EXPECTED = {
    "added_tokens_decoder": "an object with a token for each id, its text as `content`",
    "additional_special_tokens": "an array of tokens",
    "auto_map": "no such entry, or an object",
    "chat_template": "a template as text, or an array of objects with `name` and `template`",
    "extra_special_tokens": "an array of tokens, or an object of named ones",
    "init_inputs": "no such entry",
    "model_input_names": "an array of names",
    "model_max_length": "a number",
    "padding_side": _SIDE,
    "split_special_tokens": "true or false",
    "tokenizer_class": "the name of a tokenizer class of transformers",
    "truncation_side": _SIDE,
}


@dataclass(frozen=True)
class BadEntry:
    """An entry that a library does not take."""

    file: str
    key: str
    value: Any
    expected: str | None  # None where nothing is known of such an entry


def bad_entry(folder: Path, load: Callable[[Path], Any], *, words: str) -> BadEntry | None:
    """The entry without which the tokenizer in `folder` can be loaded, if it is a single one.

    Args:
        load: raises whatever it likes over a folder that it does not take.
        words: what the library said; entries that it names are tried first.
    """
    given = {name: json.loads((folder / name).read_bytes()) for name in FILES if (folder / name).is_file()}
    end = time.monotonic() + SECONDS
    with tempfile.TemporaryDirectory() as place:
        other = Path(place)
        for file in folder.iterdir():
            if file.name not in given and file.is_file():
                (other / file.name).symlink_to(file.resolve())

        for name, content in given.items():

            def works(entries: dict[str, Any], name: str = name) -> None:
                if time.monotonic() > end:
                    raise TimeoutError
                for each, held in {**given, name: entries}.items():
                    (other / each).write_text(json.dumps(held))
                try:
                    load(other)
                except BaseException as error:  # a panic of a library is no Exception
                    if not is_over_input(error):
                        raise
                    raise ValueError from error

            ordered = dict(sorted(content.items(), key=lambda entry: entry[0] not in words))
            key = entry_to_blame(ordered, works)
            if key is not None:
                return BadEntry(name, key, content[key], _expected(name, key))
    return None


def _expected(file: str, key: str) -> str | None:
    if file == "added_tokens.json":
        return "the id of the token, a whole number"
    return _EXPECTED.get(key) or (_TOKEN if key.endswith("_token") else None)
