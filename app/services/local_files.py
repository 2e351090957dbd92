"""Local models and texts, as the API host sees them: inside the configured roots, and of a kind that can be used.

Symlinks are followed before a path is held against the roots. Only names, sizes and the small `config.json` or GGUF
header are looked at; what the weights themselves tell is found by the stage.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.services.gguf_keys import keys_of_head
from secateur.contract.errors import BadCheckpoint, FieldError, InvalidInput, UnsupportedModel
from secateur.contract.models.config_limits import check_config_limits
from secateur.foreign_files import roots as roots_of
from secateur.foreign_files.gguf_header import cannot_be_imported
from secateur.foreign_files.json_objects import MAX_CONFIG_BYTES, load_json_object
from secateur.foreign_files.lfs_pointers import LFS_EXPECTED, LFS_HEAD, is_lfs_pointer, lfs_detail
from secateur.foreign_files.plain_files import PLAIN_EXPECTED, special_detail, special_file
from secateur.foreign_files.roots import Fault

PICKLED = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl"})
GGUF_HEAD_BYTES = 1 << 20  # the model's own keys come first, long before the vocabulary ends
GGUF_TENSOR_BYTES = 39  # the least that a tensor of a block takes in the table: "blk.0.x", one extent, type and place
CAUSAL = ("ForCausalLM", "LMHeadModel")
LAYER_COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")


@dataclass(frozen=True)
class LocalModelInfo:
    """What can be seen of a model without its weights."""

    path: Path  # real
    blocks: int | None  # None where only the stage can tell
    config: dict[str, Any] | None  # None for a GGUF file


def find_under(path: str, roots: Sequence[Path], *, pointer: str, what: str, setting: str) -> Path:
    """The real path of what `path` names: absolute, or relative to one of `roots`.

    Raises:
        InvalidInput: no roots are set, it lies outside them, or it does not exist.
    """
    if not roots:
        detail = f"this service takes no local {what}: no roots are configured"
        raise InvalidInput.field(pointer, detail, value=path, expected=f"a source other than local, or {setting} set")
    try:
        return roots_of.find_under(path, roots)
    except roots_of.NotUnderRoots as error:
        details = {
            Fault.UNUSABLE: "the path cannot be used",
            Fault.OUTSIDE: f"the path lies outside the {what} roots",
            Fault.MISSING: f"there is no such {what} under the {what} roots",
        }
        expected = "a path" if error.fault is Fault.UNUSABLE else f"a path under one of the folders in {setting}"
        raise InvalidInput.field(pointer, details[error.fault], value=path, expected=expected) from error


def inspect_model(path: str, roots: Sequence[Path], *, pointer: str = "/model/path") -> LocalModelInfo:
    """Look at a local model: a folder with safetensors weights, or a `.gguf` file.

    Raises:
        InvalidInput: the path is outside the roots or does not exist.
        BadCheckpoint: it holds no weights of a safe kind, or its config cannot be read.
        UnsupportedModel: it is not a decoder-only causal language model.
    """
    real = find_under(path, roots, pointer=pointer, what="model", setting="SECATEUR_MODEL_ROOTS")
    if real.is_dir():
        _check_weights(real, roots, path, pointer)
        config = _read_config(real / "config.json", path, pointer)
        _check_causal(config, path, pointer)
        blocks = next((config[key] for key in LAYER_COUNTS if type(config.get(key)) is int), None)
        if blocks is not None and blocks < 1:
            raise _bad(pointer, f"config.json declares {blocks} blocks", path)
        return LocalModelInfo(real, blocks, config)
    if not real.is_file():
        raise _bad(pointer, special_detail(real.name), path)
    if real.suffix.lower() in PICKLED:
        raise _bad(pointer, f"{real.name} is a pickled file, which could run code when it is read", path)
    _refuse_lfs_pointer(real, path, pointer)
    with real.open("rb") as file:
        head = file.read(GGUF_HEAD_BYTES)
    if head[:4] != b"GGUF":
        raise _bad(pointer, f"{real.name} is neither a folder nor a GGUF file", path)
    keys = keys_of_head(head)
    reason = cannot_be_imported(keys)
    if reason is not None:
        expected = (
            "a GGUF file that can be imported (docs/gguf.md), or a folder with the model's safetensors checkpoint"
        )
        raise UnsupportedModel(reason, errors=[FieldError(pointer, reason, path, expected)])
    blocks = keys.get(f"{keys.get('general.architecture')}.block_count")
    if not isinstance(blocks, int):
        return LocalModelInfo(real, None, None)
    _check_block_count(blocks, head, real.stat().st_size, pointer, path)
    return LocalModelInfo(real, blocks, None)


def _bad(pointer: str, detail: str, path: str) -> BadCheckpoint:
    expected = "a folder with config.json and .safetensors weights, or a .gguf file"
    return BadCheckpoint(detail, errors=[FieldError(pointer, detail, path, expected)])


def _check_weights(folder: Path, roots: Sequence[Path], path: str, pointer: str) -> None:
    special = special_file(folder)
    if special is not None:
        detail = special_detail(special)
        raise BadCheckpoint(detail, errors=[FieldError(pointer, detail, path, PLAIN_EXPECTED)])
    names = sorted(entry.name for entry in folder.iterdir())
    weights = [name for name in names if name.endswith(".safetensors")]
    pickled = [name for name in names if Path(name).suffix.lower() in PICKLED]
    if not weights and pickled:
        raise _bad(pointer, f"its weights are pickled ({pickled[0]}), which could run code when they are read", path)
    if not weights:
        raise _bad(pointer, "the folder has no .safetensors weights", path)
    for name in [*weights, "config.json"]:
        if not roots_of.lies_under(folder / name, roots):
            raise _bad(pointer, f"{name} is a link to a file outside the model roots", path)
    for name in names:
        if name.endswith((".safetensors", ".json", ".model")):
            _refuse_lfs_pointer(folder / name, path, pointer)


def _refuse_lfs_pointer(file: Path, path: str, pointer: str) -> None:
    """Refuse a file of a clone that was made without git-lfs."""
    try:
        with file.open("rb") as opened:
            head = opened.read(len(LFS_HEAD))
    except OSError:  # absent, or a folder of that name: whoever needs the file says so
        return
    if is_lfs_pointer(head):
        detail = lfs_detail(file.name)
        raise BadCheckpoint(detail, errors=[FieldError(pointer, detail, path, LFS_EXPECTED)])


def _read_config(file: Path, path: str, pointer: str) -> dict[str, Any]:
    try:
        size = file.stat().st_size
        if size > MAX_CONFIG_BYTES:
            raise _bad(pointer, f"config.json has {size} bytes; at most {MAX_CONFIG_BYTES} are read", path)
        raw = file.read_bytes()
    except FileNotFoundError as error:
        raise _bad(pointer, "the folder has no config.json", path) from error
    except OSError as error:
        raise _bad(pointer, "config.json cannot be read", path) from error
    try:
        config = load_json_object(raw, "config.json")
    except BadCheckpoint as error:
        raise _bad(pointer, error.detail.rstrip("."), path) from error
    check_config_limits(config, pointer=pointer)
    return config


def _check_causal(config: dict[str, Any], path: str, pointer: str) -> None:
    architectures = config.get("architectures")
    names = [name for name in architectures if isinstance(name, str)] if isinstance(architectures, list) else []
    detail = None
    if config.get("is_encoder_decoder") is True:
        detail = f"the model is an encoder-decoder ({', '.join(names) or config.get('model_type')})"
    elif names and not any(name.endswith(CAUSAL) for name in names):
        detail = f"the model is not a causal language model ({', '.join(names)})"
    if detail:
        error = FieldError(pointer, detail, path, "a decoder-only causal language model")
        raise UnsupportedModel(detail, errors=[error])


def _check_block_count(blocks: int, head: bytes, file_bytes: int, pointer: str, path: str) -> None:
    """Hold the number of blocks that a GGUF file claims against its tensors, and those against its size."""
    (tensors,) = struct.unpack_from("<Q", head, 8)
    if blocks < 1:
        raise _bad(pointer, "the file claims to have no blocks", path)
    if tensors * GGUF_TENSOR_BYTES > file_bytes:
        raise _bad(pointer, f"the file claims {tensors} tensors, and has {file_bytes} bytes", path)
    if blocks > tensors:
        raise _bad(pointer, f"the file claims {blocks} blocks, and has {tensors} tensors", path)
