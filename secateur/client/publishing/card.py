"""The model card of what is published: the checkpoint's own, which the service hands out with what was measured.

Its metadata is written by the service, each entry on a line, its values as JSON (`workers/reporting/model_card.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

_USE = re.compile(r"^## Use\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)
_LIBRARY = re.compile(r"^library_name: .*\n", re.MULTILINE)


def with_base_model(card: str, base_model: str) -> str:
    """The card with the original's id on the hub; one that it names already stays."""
    if re.search(r"^base_model: ", _metadata(card), re.MULTILINE) or not card.startswith("---\n"):
        return card
    return f"---\nbase_model: {json.dumps(base_model)}\n" + card.removeprefix("---\n")


def of_files(card: str, names: Sequence[str]) -> str:
    """The card of a checkpoint as that of these GGUF files, which are loaded by something else."""
    lines = "".join(f"llama-cli -m {name}\n" for name in names)
    metadata = _metadata(card)
    relation = "" if "base_model_relation" in metadata else "base_model_relation: quantized\n"
    changed = re.sub(r"^(base_model: .*\n)", rf"\1{relation}", _LIBRARY.sub("", metadata), count=1, flags=re.MULTILINE)
    use = f"## Use\n\nllama.cpp, and what is built on it, loads it as it is.\n\n```sh\n{lines}```\n\n"
    return _USE.sub(lambda _: use, changed + card.removeprefix(metadata), count=1).rstrip("\n") + "\n"


def _metadata(card: str) -> str:
    """Everything up to the end of the metadata."""
    found = re.match(r"---\n.*?^---\n", card, re.DOTALL | re.MULTILINE)
    return found[0] if found else ""
