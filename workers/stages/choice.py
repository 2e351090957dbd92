"""Which blocks go: the order of the scores, less what may not go, cut at how many the spec asks for.

Where sets were compared after healing, the stage that did so has chosen (`choose.py`).
"""

from __future__ import annotations

from secateur.contract.depth import blocks_to_remove, check_depth, plus_protected
from secateur.contract.options.pruning import DepthPruning
from secateur.contract.options.target import Target
from secateur.contract.results import Scored
from secateur.contract.stage_kinds import CHOOSE, CORRECT, DRAFT, PLAN, SCORE, SEARCH
from secateur.contract.targets import Sizes, blocks_for_size
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.parameters import count_parameters
from workers.engine.pruning.choose_blocks import choose_blocks
from workers.engine.pruning.depth import bytes_by_place
from workers.engine.scoring.result import BlockScores
from workers.stages.context import StageContext
from workers.stages.original import Original

NO_SCORING = 'a model that this worker can compute with, or blocks by name, `"drop": [21, 22]`, which need no scoring'


def wanted(context: StageContext, original: Original) -> tuple[int, frozenset[int]]:
    """How many blocks go, and which may not. What takes measuring, an earlier stage has found.

    Raises:
        InvalidInput: so many cannot go, or no depth reaches the target.
    """
    pruning, plus, blocks = context.stage.spec.pruning, context.stage.spec.scoring.plus, original.info.blocks
    assert isinstance(pruning, DepthPruning), "only whole blocks are scored"
    check_depth(pruning, blocks, plus=plus)
    if context.has(CORRECT):
        count = context.read(CORRECT).removed
    elif context.has(PLAN):
        count = context.read(PLAN).removed
    elif context.has(SEARCH):
        count = context.read(SEARCH).removed
    elif context.has(DRAFT):
        count = context.read(DRAFT).removed
    else:
        count = _count(pruning, original, plus=plus)
    return count, frozenset(plus_protected(blocks) if plus else ())


def _count(pruning: DepthPruning, original: Original, *, plus: bool) -> int:
    if pruning.target is None:
        return blocks_to_remove(pruning, original.info.blocks)
    return blocks_for_size(pruning.target, sizes_of(pruning.target, original.checkpoint), plus=plus)


def sizes_of(target: Target, checkpoint: Checkpoint) -> Sizes:
    """The model by place, in the target's unit."""
    return bytes_by_place(checkpoint) if target.figure == "bytes" else Sizes.of(count_parameters(checkpoint.config))


def chosen(context: StageContext, original: Original) -> tuple[list[int], list[int]]:
    """The blocks that go, and those that could not, both ascending.

    Raises:
        InvalidInput: so many cannot go, or a search has ranked fewer.
    """
    count, protected = wanted(context, original)
    if context.has(CHOOSE):
        return context.read(CHOOSE).dropped, sorted(protected)
    return sorted(first_that_may_go(context.read(SCORE), count, protected)), sorted(protected)


def first_that_may_go(scored: Scored, count: int, protected: frozenset[int]) -> list[int]:
    """The first blocks of the order that may go. Raises InvalidInput where there are not so many."""
    return choose_blocks(block_scores(scored), count=count, protected=protected)


def block_scores(scored: Scored) -> BlockScores:
    """As the engine has them."""
    return BlockScores([block.value for block in scored.blocks], None, scored.order)
