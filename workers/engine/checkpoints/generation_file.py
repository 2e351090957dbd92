"""generation_config.json: the file beside the weights that says which tokens end a text.

transformers passes over a file that it cannot parse, and then nothing ends a text. So it is read here first.
"""

from __future__ import annotations

from pathlib import Path

from transformers import GenerationConfig

from secateur.contract.errors import BadCheckpoint
from secateur.foreign_files.json_objects import MAX_CONFIG_BYTES, load_json_object
from workers.engine.blame import blamed_on

GENERATION_FILE = "generation_config.json"


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
    with blamed_on(
        "model",
        f"{GENERATION_FILE} cannot be used",
        value=GENERATION_FILE,
        expected="settings that transformers takes, or no such file",
        kind=BadCheckpoint,
    ):
        GenerationConfig.from_dict(found)
