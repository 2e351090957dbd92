"""Which of the pruned model's own weights are trained: all, what follows the first cut, or the last blocks.

What stands before the first cut computes what it computed in the original. `after_cut` leaves it so, with the embedding
and the head, and trains the blocks from the one before the cut on.

`last_blocks` trains so many blocks at the end, the final norm and the head, which mended pruned models better than
adapters for Lu et al. 2024 (arXiv 2411.15558). A head that is the embedding too is one matrix, which is trained as
both: gradients then go through all blocks, and what is written is what was in memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from transformers import PreTrainedModel

from secateur.contract.errors import InvalidInput
from secateur.contract.options.recovery import ContinuedRecovery, DistillRecovery
from workers.engine.architectures.registry import architecture_of
from workers.engine.healing.cuts import cut_ends
from workers.engine.recovery.weights import train_all

OWN_WEIGHTS = ("all", "after_cut", "last_blocks")  # values of `train` that ask for no adapters


def choose_trained(
    model: PreTrainedModel, options: DistillRecovery | ContinuedRecovery, kept: Sequence[int]
) -> list[str]:
    """Let those of the model's weights be trained that `options` name; notes for the report.

    Args:
        kept: for each of its blocks, which of the original's it is.

    Raises:
        InvalidInput: the model has fewer blocks than are to be trained.
    """
    if options.train not in ("after_cut", "last_blocks"):
        train_all(model)
        return []
    model.requires_grad_(False)
    if options.train == "after_cut":
        return [_after_cut(model, tuple(kept))]
    return [_last_blocks(model, options.last_blocks)]


def check_last_blocks(asked: int, blocks: int) -> None:
    """Refuse to train more blocks than there are.

    Raises:
        InvalidInput: the pruned model has no more than `blocks`, and more are asked for.
    """
    if asked > blocks:
        raise InvalidInput.field(
            "last_blocks",
            f"The last {asked:,} blocks are to be trained, and the pruned model has {blocks:,}.",
            value=asked,
            expected=f"at most {blocks:,}",
        )


def _after_cut(model: PreTrainedModel, kept: tuple[int, ...]) -> str:
    first, blocks = block_before_cut(kept), _blocks(model)
    for block in blocks[first:]:
        block.requires_grad_(True)
    return (
        f"Blocks {first} to {len(blocks) - 1} of the pruned model were trained; what is not in them is the original's."
    )


def _last_blocks(model: PreTrainedModel, count: int) -> str:
    architecture, blocks = architecture_of(model.config), _blocks(model)
    check_last_blocks(count, len(blocks))
    head = model.get_submodule(architecture.head)
    for part in (*blocks[-count:], head):
        part.requires_grad_(True)
    if architecture.final_norm is not None:
        model.get_submodule(architecture.final_norm).requires_grad_(True)
    own = {id(parameter) for parameter in head.parameters()}
    tied = any(id(parameter) in own for parameter in model.get_input_embeddings().parameters())
    first, last = len(blocks) - count, len(blocks) - 1
    which = f"Block {last}" if first == last else f"Blocks {first} to {last}"
    also = "the head, which is the embedding too," if tied else "the head"
    return f"{which} of the pruned model, the final norm and {also} were trained, and nothing else."


def _blocks(model: PreTrainedModel) -> list[nn.Module]:
    return list(model.get_submodule(architecture_of(model.config).blocks_prefix).children())


def block_before_cut(kept: tuple[int, ...]) -> int:
    """Which of the pruned model's blocks stands before the first cut; the first one where nothing does.

    >>> block_before_cut((0, 1, 4, 5)), block_before_cut((2, 3, 5)), block_before_cut((0, 1, 2))
    (1, 0, 2)
    """
    if kept[0] != 0:
        return 0
    return min(cut_ends(kept, kept[-1] + 2))  # as if one more followed the last block; up to the first, numbers agree
