"""The one table of criteria: from the options that a job gives to the function that scores blocks by them.

What each is called, its options and its paper stand in `secateur/contract/options/scoring/`, its formula in the file of
the same name here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secateur.contract.options.scoring.angular import AngularScoring
from secateur.contract.options.scoring.block_influence import BlockInfluenceScoring
from secateur.contract.options.scoring.blocks import BlockScoring
from secateur.contract.options.scoring.cosine import CosineScoring
from secateur.contract.options.scoring.evolutionary import EvolutionaryScoring
from secateur.contract.options.scoring.greedy import GreedyScoring
from secateur.contract.options.scoring.healed_greedy import HealedGreedyScoring
from secateur.contract.options.scoring.magnitude import MagnitudeScoring
from secateur.contract.options.scoring.perplexity import PerplexityScoring
from secateur.contract.options.scoring.random import RandomScoring
from secateur.contract.options.scoring.taylor import TaylorScoring
from workers.engine.scoring import (
    angular,
    block_influence,
    cosine,
    evolutionary,
    greedy,
    healed_greedy,
    magnitude,
    perplexity,
    random,
    taylor,
)
from workers.engine.scoring.result import BlockScores
from workers.engine.scoring.task import Criterion, Options, ScoringTask


def _row(options: type[Options], score: Criterion[Options]) -> tuple[type[BlockScoring], Criterion[Any]]:
    """A row of the table; a type checker sees that the function takes these options."""
    return options, score


CRITERIA: Mapping[type[BlockScoring], Criterion[Any]] = dict(
    (
        _row(PerplexityScoring, perplexity.score),
        _row(TaylorScoring, taylor.score),
        _row(MagnitudeScoring, magnitude.score),
        _row(BlockInfluenceScoring, block_influence.score),
        _row(AngularScoring, angular.score),
        _row(CosineScoring, cosine.score),
        _row(GreedyScoring, greedy.score),
        _row(HealedGreedyScoring, healed_greedy.score),
        _row(EvolutionaryScoring, evolutionary.score),
        _row(RandomScoring, random.score),
    )
)


def score(task: ScoringTask[Any]) -> BlockScores:
    """Score all blocks by the criterion whose options the task has.

    Raises:
        InvalidInput: tokens or options do not fit the model.
    """
    return CRITERIA[type(task.options)](task)
