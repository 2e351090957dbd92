"""Models between a recovered one and the original: original blocks are put back where blocks were removed.

Boomerang distillation (Kangaslahti et al. 2025, arXiv 2510.05064): the block before a cut has come to stand for itself
and for what was removed behind it, so it can be replaced by all of these as they were, and nothing is trained again. As
there, the model is the original from such a block to its end, the final norm and the head included, and the recovered
one before that; or the other way round. So a block that stands for a cut never has the cut's own blocks behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from secateur.contract.options.sizes import End
from workers.engine.architectures.config import as_config
from workers.engine.architectures.discovery import skeleton
from workers.engine.architectures.registry import architecture_of
from workers.engine.checkpoints.block_names import block_of
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.names_on_disk import names_on_disk
from workers.engine.checkpoints.new_folder import full_disk
from workers.engine.checkpoints.patch import Change, patch_checkpoint
from workers.engine.progress import Progress, no_progress
from workers.engine.pruning.depth import prune_depth, stack_of


@dataclass(frozen=True)
class Between:
    """A model between the recovered one and the original."""

    blocks: int  # that it has
    put_back: tuple[int, ...]  # of the blocks that were removed, ascending
    originals: range  # the original's blocks that are its own as they were


def sizes_between(count: int, dropped: Sequence[int], *, end: End) -> list[Between]:
    """All models in between, the smallest first; the recovered one and one of the original's size are not among them.

    Args:
        count: of the original's blocks.
        dropped: those that were removed, ascending.
        end: of the model at which the blocks are put back first.

    >>> [(model.blocks, model.put_back, model.originals) for model in sizes_between(9, [2, 5, 6], end="last")]
    [(8, (5, 6), range(4, 9))]
    >>> [(model.blocks, model.put_back, model.originals) for model in sizes_between(9, [2, 5, 6], end="first")]
    [(7, (2,), range(0, 3))]
    """
    starts = [block for block in dropped if block - 1 not in dropped]
    stops = [block + 1 for block in dropped if block + 1 not in dropped]
    if end == "last":
        regions = [range(max(0, start - 1), count) for start in reversed(starts[1:])]
    else:
        regions = [range(stop) for stop in stops[:-1]]
    found = []
    for region in regions:
        back = tuple(block for block in dropped if block in region)
        found.append(Between(count - len(dropped) + len(back), back, region))
    return found


def put_back(
    original: Checkpoint,
    recovered: Checkpoint,
    target: Path,
    *,
    dropped: Sequence[int],
    model: Between,
    progress: Progress = no_progress,
) -> None:
    """Write one of `sizes_between` into the new folder `target`.

    Args:
        recovered: the original without the blocks `dropped`, with other values.

    Raises:
        UnsupportedModel: a block would work otherwise by its new number.
        StageFailed: the disk is full.
    """
    left_out = [block for block in dropped if block not in model.put_back]
    with full_disk(), TemporaryDirectory(dir=target.parent) as folder:
        prune_depth(original, Path(folder) / "bare", drop=left_out, progress=progress)
        bare = Checkpoint.open(Path(folder) / "bare")
        changes = {name: _is(recovered, source) for name, source in _taken(bare, recovered, dropped, model).items()}
        patch_checkpoint(bare, target, changes)


def _taken(bare: Checkpoint, recovered: Checkpoint, dropped: Sequence[int], model: Between) -> dict[str, str]:
    """The tensors of the new model that are the recovered one's: what they are called here and there.

    Args:
        bare: of the new model's blocks, with the original's values throughout.
    """
    architecture = architecture_of(recovered.config)
    prefix, _ = stack_of(bare, architecture)
    source, left = stack_of(recovered, architecture)
    kept = [block for block in range(left + len(dropped)) if block not in dropped]
    blocks = sorted([*kept, *model.put_back])
    numbers = {new: kept.index(block) for new, block in enumerate(blocks) if block not in model.originals}
    outside = _outside(recovered, of_embedding=model.originals.start > 0)
    found = {}
    for name in bare.names():
        block = block_of(name, prefix)
        if block in numbers:
            found[name] = f"{source}{numbers[block]}{name[len(prefix) + len(str(block)) :]}"
        elif block is None and name in outside:
            found[name] = name
    return found


def _outside(recovered: Checkpoint, *, of_embedding: bool) -> set[str]:
    """The recovered model's tensors outside the blocks: the embedding's and what is tied to it, or the others."""
    architecture = architecture_of(recovered.config)
    held = names_on_disk(skeleton(as_config(recovered.config)), recovered)
    paths = tuple(f"{path}." for path in architecture.embeddings)
    embedding = {name for parameter, names in held.items() if parameter.startswith(paths) for name in names}
    prefix, _ = stack_of(recovered, architecture)
    others = {name for name in recovered.names() if block_of(name, prefix) is None}
    return embedding & others if of_embedding else others - embedding


def _is(checkpoint: Checkpoint, name: str) -> Change:
    def values(before: Tensor) -> Tensor:
        return checkpoint.read(name)

    return values
