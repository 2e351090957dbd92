"""Whether a local model can be as small as a job's target asks, as far as its config and its files' sizes tell.

The number of blocks is worked out where it is used, from the files' headers too; here is refused what comes out badly
in any case.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.services.local_files import LocalModelInfo
from secateur.contract.depth import most_that_may_go
from secateur.contract.errors import BadCheckpoint, InvalidInput
from secateur.contract.models.families import family_of
from secateur.contract.models.parameters import parameter_count
from secateur.contract.options.pruning import DepthPruning
from secateur.contract.targets import Sizes, as_large, blocks_for_size, none_may_go

_HEADER_BYTES = 1 << 24  # of a header that are looked at


def check_target(pruning: DepthPruning, info: LocalModelInfo, *, plus: bool) -> None:
    """Raises InvalidInput: the model is no larger, or too large even without all blocks that may go, if any may."""
    target = pruning.target
    if target is None or target.measured:
        if info.blocks is not None and not most_that_may_go(info.blocks, plus=plus):
            raise none_may_go(pruning, info.blocks, plus=plus)
        return
    if info.config is None:
        return
    if target.figure == "bytes":
        most = sum(file.stat().st_size for file in info.path.glob("*.safetensors"))  # with headers
        if target.value >= most:
            raise as_large(target, most)
        return
    refused: list[InvalidInput] = []
    for sizes in _as_it_may_be(info.config, info.path):
        try:
            blocks_for_size(target, sizes, plus=plus)
        except InvalidInput as error:
            refused.append(error)
        else:
            return
    if refused:
        raise refused[0]


def _as_it_may_be(config: dict[str, Any], folder: Path) -> Iterator[Sizes]:
    """The parameters by the config; and with a head of its own where the files have one, which need not be the same."""
    untied = [{**config, "tie_word_embeddings": False}] if _has_head(config, folder) else []
    for may_be in (config, *untied):
        try:
            count = parameter_count(may_be)
        except BadCheckpoint:  # it leaves to the class's defaults what the formula asks for
            return
        if count is not None:
            yield Sizes.of(count)


def _has_head(config: dict[str, Any], folder: Path) -> bool:
    """Whether a weight file's header names the family's head."""
    family = family_of(config.get("model_type"))
    if family is None:
        return False
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if f'"{family.architecture.head}.'.encode() in file.read(min(length, _HEADER_BYTES)):
                return True
    return False
