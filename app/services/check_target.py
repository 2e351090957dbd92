"""Whether a local model can be as small as a job's target asks, as far as its config and its files' sizes tell.

The number of blocks is worked out where it is used, from the files' headers too; here is refused what comes out badly
in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from app.services.local_files import LocalModelInfo
from secateur.contract.depth import most_that_may_go
from secateur.contract.errors import BadCheckpoint, InvalidInput
from secateur.contract.joint import needed_of, parts_of
from secateur.contract.models.families import family_of
from secateur.contract.models.formulas import ParameterCount
from secateur.contract.models.parameters import parameter_count
from secateur.contract.options.joint import JointPruning
from secateur.contract.options.pruning import DepthPruning
from secateur.contract.options.target import Target
from secateur.contract.targets import Sizes, as_large, blocks_for_size, none_may_go

_HEADER_BYTES = 1 << 24  # of a header that are looked at


def check_target(pruning: DepthPruning, info: LocalModelInfo, *, plus: bool) -> None:
    """Raises InvalidInput: the model is no larger, or too large even without all blocks that may go, if any may."""
    target = pruning.target
    if target is None or target.measured:
        if info.blocks is not None and not most_that_may_go(info.blocks, plus=plus):
            raise none_may_go(pruning, info.blocks, plus=plus)
        return
    _check_size(target, info, lambda count: blocks_for_size(target, Sizes.of(count), plus=plus))


def check_joint_target(pruning: JointPruning, info: LocalModelInfo) -> None:
    """Raises InvalidInput: the model is no larger than a counted target, or too large without all that may go."""
    target = pruning.target

    def look(count: ParameterCount) -> None:
        def saved(block: int, goes: str) -> int:
            of_block = count.blocks[block]
            return {"attention": of_block.attention, "mlp": of_block.mlp}.get(goes, of_block.total)

        needed_of(target, Sizes.of(count), parts_of(pruning, len(count.blocks), saved))

    if not target.measured:
        _check_size(target, info, look)


def _check_size(target: Target, info: LocalModelInfo, look: Callable[[ParameterCount], object]) -> None:
    """Raises InvalidInput where `look` does, whichever way the parameters may be counted."""
    if info.config is None:
        return
    if target.figure == "bytes":
        most = sum(file.stat().st_size for file in info.path.glob("*.safetensors"))  # with headers
        if target.value >= most:
            raise as_large(target, most)
        return
    refused: list[InvalidInput] = []
    for count in _as_it_may_be(info.config, info.path):
        try:
            look(count)
        except InvalidInput as error:
            refused.append(error)
        else:
            return
    if refused:
        raise refused[0]


def _as_it_may_be(config: dict[str, Any], folder: Path) -> Iterator[ParameterCount]:
    """The parameters by the config; and with a head of its own where the files have one, which need not be the same."""
    untied = [{**config, "tie_word_embeddings": False}] if _has_head(config, folder) else []
    for may_be in (config, *untied):
        try:
            count = parameter_count(may_be)
        except BadCheckpoint:  # it leaves to the class's defaults what the formula asks for
            return
        if count is not None:
            yield count


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
