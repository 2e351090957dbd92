"""The one table of criteria: the name that a job gives to the function that scores blocks by it.

What each is called, its options and its paper stand in the catalogue (`secateur/contract/catalog.py`), its formula in
its own file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from workers.engine.model.block_model import BlockModel
from workers.engine.progress import Progress
from workers.engine.scoring import (
    angular,
    block_influence,
    cosine,
    evolutionary,
    greedy,
    magnitude,
    perplexity,
    random,
    taylor,
)
from workers.engine.scoring.result import BlockScores


class Criterion(Protocol):
    """Scores the blocks of a model. The same input on the same machine gives the same bits."""

    def __call__(
        self,
        model: BlockModel,
        ids: Tensor | None,
        *,
        options: Mapping[str, Any],
        progress: Progress,
        seed: int,
    ) -> BlockScores:
        """Score all blocks.

        Args:
            model: from memory or streamed from disk.
            ids: (samples, tokens) calibration tokens; None for a criterion that needs no text.
            options: the criterion's own, see its file.
            progress: told after each unit of work.
            seed: of whatever is random.

        Raises:
            InvalidInput: tokens or options do not fit the model.
        """
        ...


CRITERIA: dict[str, Criterion] = {
    "perplexity": perplexity.score,
    "taylor": taylor.score,
    "magnitude": magnitude.score,
    "block_influence": block_influence.score,
    "angular": angular.score,
    "cosine": cosine.score,
    "greedy": greedy.score,
    "evolutionary": evolutionary.score,
    "random": random.score,
}
