"""generation_config.json: the file beside the weights that says which tokens end a text.

transformers passes over a file that it cannot parse, and then nothing ends a text. So it is read here first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from secateur.contract.errors import BadCheckpoint
from secateur.contract.shown import shortened
from secateur.foreign_files.json_objects import MAX_CONFIG_BYTES, load_json_object
from workers.engine.architectures.culprit import entry_to_blame
from workers.engine.blame import words_of

GENERATION_FILE = "generation_config.json"
_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
_ID = "a token's id, a whole number, or an array of such"


def check_generation_file(folder: Path) -> None:
    """Read the file of the checkpoint in `folder`, if it has one.

    Raises:
        BadCheckpoint: it is not what transformers takes.
    """
    file = folder / GENERATION_FILE
    if not file.is_file():
        return
    if file.stat().st_size > MAX_CONFIG_BYTES:
        raise BadCheckpoint(f"{GENERATION_FILE} is larger than {MAX_CONFIG_BYTES} bytes.")
    found = load_json_object(file.read_bytes(), GENERATION_FILE)
    for name in _TOKENS:
        if not _is_token(found.get(name)):
            detail = f"`{name}` of {GENERATION_FILE} is no token's id."
            raise BadCheckpoint.field("model", detail, value=found[name], expected=_ID)
    try:
        GenerationConfig.from_dict(dict(found))
    except Exception as error:  # each setting has its own kind
        key = entry_to_blame(found, GenerationConfig.from_dict)
        what = f"`{shortened(key)}` of {GENERATION_FILE}" if key else GENERATION_FILE
        raise BadCheckpoint.field(
            "model",
            f"{what} cannot be used: {words_of(error)}",
            value=found[key] if key else GENERATION_FILE,
            expected="settings that transformers takes, or no such file",
        ) from error


def _is_token(value: Any) -> bool:
    ids = value if isinstance(value, list) else [value]
    return value is None or all(type(number) is int for number in ids)
