"""What lies beside the weights of a checkpoint and belongs to it: tokenizer, generation config, licence.

A list of what to take, and not of what to leave, because a folder may hold anything: weights in other formats,
code, an adapter that transformers would load onto the wrong blocks. The model card is left too: it describes
another model.
"""

from __future__ import annotations

import shutil
from fnmatch import fnmatchcase
from pathlib import Path

_TAKE = (
    "*.jinja",
    "*.json",
    "*.model",  # sentencepiece
    "*.tiktoken",
    "copying*",
    "licen[cs]e*",
    "merges.txt",
    "notice*",
    "use_policy*",
    "vocab.txt",
)
_LEAVE = (
    "*.index.json",
    "adapter_*",
    "config.json",  # whoever changes the blocks writes it anew
    "kv_cache_scales*.json",  # of the blocks by their numbers
    "params.json",  # Mistral's own config, with its number of blocks
    "trainer_state.json",
)
_TEMPLATES = "additional_chat_templates"
QUANTIZER_FILES = ("hf_quant_config.json", "quant_config.json", "quantize_config.json")


def side_files(source: Path) -> list[Path]:
    """The files of a checkpoint folder that go wherever its weights go, relative to the folder."""
    names = [
        Path(entry.name)
        for entry in sorted(source.iterdir())
        if entry.is_file()
        and any(fnmatchcase(entry.name.lower(), pattern) for pattern in _TAKE)
        and not any(fnmatchcase(entry.name.lower(), pattern) for pattern in _LEAVE)
    ]
    templates = source / _TEMPLATES
    if templates.is_dir():
        names += [Path(_TEMPLATES) / entry.name for entry in sorted(templates.glob("*.jinja")) if entry.is_file()]
    return names


def copy_side_files(source: Path, target: Path) -> None:
    """Copy them; symlinks become the files that they point at."""
    for name in side_files(source):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)
