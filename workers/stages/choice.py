"""Which blocks go: the order of the scores, less what may not go, cut at how many the spec asks for."""

from __future__ import annotations

from secateur.contract.depth import blocks_to_remove
from secateur.contract.options.pruning import DepthPruning
from secateur.contract.results import Scored
from secateur.contract.spec import CompressionSpec
from workers.engine.pruning.plan import choose_blocks, count_from_ratio, protected_by_plus
from workers.engine.scoring.count import check_count
from workers.engine.scoring.result import BlockScores

NO_SCORING = 'a model that this worker can compute with, or blocks by name, `"drop": [21, 22]`, which need no scoring'


def wanted(spec: CompressionSpec, blocks: int) -> tuple[int, frozenset[int]]:
    """How many blocks go, and which may not.

    Raises:
        InvalidInput: so many cannot go.
    """
    protected = protected_by_plus(blocks) if spec.scoring.plus else frozenset()
    pruning = spec.pruning
    assert isinstance(pruning, DepthPruning), "only whole blocks are scored"
    count = blocks_to_remove(pruning, blocks) if pruning.ratio is None else count_from_ratio(blocks, pruning.ratio)
    check_count(blocks, count=count, protected=protected)
    return count, protected


def chosen(spec: CompressionSpec, scored: Scored) -> tuple[list[int], list[int]]:
    """The blocks that go, and those that could not, both ascending.

    Raises:
        InvalidInput: so many cannot go, or a search has ranked fewer.
    """
    count, protected = wanted(spec, len(scored.blocks))
    scores = BlockScores([block.value for block in scored.blocks], None, scored.order)
    return sorted(choose_blocks(scores, count=count, protected=protected)), sorted(protected)
