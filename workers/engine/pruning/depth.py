"""Depth pruning: a checkpoint without some of its Transformer blocks, written without loading it.

Blocks stand one after the other, so a model without some of them is the same file with their tensors left out and
the numbers in the remaining names closed up (`header_rewrite.py`). The dtype does not matter, so quantised checkpoints
are pruned like any other. The config and the quantiser's settings follow the new numbers.

The cut itself is that of Shortened LLaMA (arXiv 2402.02834) and ShortGPT (arXiv 2403.03853); those rebuild the
model in memory and save it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from secateur.contract.errors import BadCheckpoint, InvalidInput
from secateur.contract.models.architecture import Architecture
from secateur.contract.targets import Sizes
from workers.engine.architectures.config import as_config, layer_count
from workers.engine.architectures.discovery import skeleton
from workers.engine.architectures.registry import architecture_of
from workers.engine.checkpoints.block_names import block_of, block_stacks, prefix_and_block
from workers.engine.checkpoints.checkpoint import CONFIG_FILE, Checkpoint, read_json_file
from workers.engine.checkpoints.json_file import write_json
from workers.engine.checkpoints.new_folder import new_folder
from workers.engine.checkpoints.parameters import count_parameters
from workers.engine.checkpoints.side_files import QUANTIZER_FILES, copy_side_files
from workers.engine.progress import Progress, no_progress
from workers.engine.pruning.depth_config import keep_blocks
from workers.engine.pruning.header_rewrite import NewName, write_renamed
from workers.engine.pruning.module_names import module_names, renumber_module_names

_PREDICTION = re.compile(r"(^|\.)mtp(_layers|_block)?\.")  # multi-token-prediction heads; they knew the whole model


@dataclass(frozen=True)
class DepthPruned:
    """What was kept, and what it weighs."""

    kept: list[int]  # numbers that the kept blocks had, ascending
    dropped: list[int]
    parameters_before: int
    parameters_after: int
    bytes_before: int  # of tensors
    bytes_after: int


def prune_depth(
    source: Checkpoint, target: Path, *, drop: Sequence[int], progress: Progress = no_progress
) -> DepthPruned:
    """Write the checkpoint `source` without the blocks `drop` into the new folder `target`.

    The folder appears under its name only when it is complete; after an error nothing is left.

    Args:
        drop: numbers of blocks, from 0, in any order.
        progress: counts bytes.

    Raises:
        InvalidInput: `drop` is empty, names a block twice or one that does not exist, or names all.
        BadCheckpoint: the source has changed since it was opened.
        UnsupportedModel: the family is not supported, or a kept block would work differently under its new number.
        StageFailed: the disk is full, or `target` exists.
    """
    architecture = architecture_of(source.config)
    prefix, count = stack_of(source, architecture)
    keep = blocks_to_keep(count, drop)
    before = count_parameters(source.config).total
    with new_folder(target) as folder, ThreadPoolExecutor(1) as executor:
        # The kernel copies without the interpreter's lock, so the new config is made and checked meanwhile.
        config = executor.submit(keep_blocks, source.config, keep, architecture, tensors=source.names())

        def check() -> None:
            if config.done():
                config.result()  # refused: do not copy on

        write_renamed(source, folder, renumbering(prefix, keep), progress=progress, after_step=check)
        copy_side_files(source.path, folder)
        renumber_quantizer_files(folder, source, architecture, keep)
        write_json(folder / CONFIG_FILE, config.result())
        pruned = Checkpoint.open(folder)
        after = count_parameters(pruned.config).total  # while the folder can still be taken back
    return DepthPruned(
        kept=keep,
        dropped=sorted(set(range(count)) - set(keep)),
        parameters_before=before,
        parameters_after=after,
        bytes_before=source.total_bytes,
        bytes_after=pruned.total_bytes,
    )


def blocks_to_keep(count: int, drop: Sequence[int]) -> list[int]:
    """The blocks of 0 … count-1 that are not in `drop`.

    Raises:
        InvalidInput: over `drop`, as in `prune_depth`.
    """
    expected = f"distinct numbers from 0 to {count - 1}, and not all of them"
    if not drop:
        raise InvalidInput.field("drop", "No block is named.", value=list(drop), expected=expected)
    for number in drop:
        if not 0 <= number < count:
            raise InvalidInput.field(
                "drop", f"The model has {count} blocks, and no block {number}.", value=list(drop), expected=expected
            )
    if len(set(drop)) < len(drop):
        raise InvalidInput.field("drop", "A block is named twice.", value=list(drop), expected=expected)
    if len(drop) == count:
        raise InvalidInput.field("drop", "No block would be left.", value=list(drop), expected=expected)
    return sorted(set(range(count)) - set(drop))


def bytes_by_place(source: Checkpoint) -> Sizes:
    """What each block weighs on disk, and what stays, as `prune_depth` would leave it. Raises as it does."""
    prefix, count = stack_of(source, architecture_of(source.config))
    per_block, rest, stays = [0] * count, 0, renumbering(prefix, range(count))
    for name in source.names():
        if stays(name) is None:
            continue
        block = block_of(name, prefix)
        if block is None:
            rest += source.nbytes(name)
        else:
            per_block[block] += source.nbytes(name)
    return Sizes(per_block, rest, source.total_bytes)


def stack_of(checkpoint: Checkpoint, architecture: Architecture) -> tuple[str, int]:
    """The prefix under which the file keeps its blocks, dot included, and how many the config declares."""
    stacks = block_stacks(checkpoint.names())
    count = layer_count(as_config(checkpoint.config))
    for path in architecture.disk_prefixes:
        if f"{path}." in stacks:
            return f"{path}.", count
    if prefix := _renamed_stack(checkpoint, architecture):
        return prefix, count
    raise BadCheckpoint(f"{checkpoint.path.name}: no tensors are named {architecture.blocks_prefix}.0.…")


def _renamed_stack(checkpoint: Checkpoint, architecture: Architecture) -> str | None:
    """The prefix of the blocks on disk where the family stores them under other names than its modules have."""
    # Imported here: it brings the model classes along, which most families do without.
    from workers.engine.checkpoints.names_on_disk import renamed, shapes_of

    model = skeleton(as_config(checkpoint.config))
    found = set()
    for name, (target, _) in renamed(checkpoint.names(), model, shapes_of(model)).items():
        block = block_of(target, f"{architecture.blocks_prefix}.")
        if block is None:
            continue
        prefix, number = prefix_and_block(name) or ("", None)
        if number != block:
            return None
        found.add(prefix)
    return found.pop() if len(found) == 1 else None


def renumbering(prefix: str, keep: Sequence[int]) -> Callable[[str], NewName]:
    """What each tensor is called once only the blocks `keep` of the stack at `prefix` are left; None where it goes."""
    numbers = {old: new for new, old in enumerate(keep)}

    def new_name(name: str) -> NewName:
        block = block_of(name, prefix)
        if block is None:
            return None if _PREDICTION.search(name) else name
        if block not in numbers:  # dropped, or a multi-token-prediction layer stored behind the blocks
            return None
        return f"{prefix}{numbers[block]}{name[len(prefix) + len(str(block)) :]}"

    return new_name


def renumber_quantizer_files(
    folder: Path, checkpoint: Checkpoint, architecture: Architecture, keep: Sequence[int]
) -> None:
    """Some quantisers keep their settings in a file of their own; their module names follow the blocks too."""
    numbers = {old: new for new, old in enumerate(keep)}
    for name in QUANTIZER_FILES:
        if (folder / name).is_file():
            modules = module_names(checkpoint.names(), architecture.disk_prefixes, numbers)
            write_json(folder / name, renumber_module_names(read_json_file(folder / name), modules))
