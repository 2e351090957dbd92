"""What a criterion is given, and how it is found: the plug point of scoring.

The table of criteria is the contract's (`secateur/contract/options/scoring.py`). What one computes is `score` in the
file of its name here, which takes a task of its options; a test holds every row against that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Generic, TypeVar

from torch import Tensor

from secateur.contract.errors import InvalidInput
from secateur.contract.options.scoring import BlockScoring
from workers.engine.model.block_model import BlockModel
from workers.engine.progress import Progress, no_progress
from workers.engine.scoring.count import check_count
from workers.engine.scoring.result import BlockScores

Options = TypeVar("Options", bound=BlockScoring)


@dataclass(frozen=True)
class ScoringTask(Generic[Options]):
    """One model whose blocks are to be scored. The same task on the same machine gives the same bits."""

    model: BlockModel  # from memory or streamed from disk
    ids: Tensor | None  # (samples, tokens) calibration tokens; None for a criterion that needs no text
    options: Options  # the criterion's own
    count: int | None = None  # how many blocks will go: for a search, and for no other
    protected: frozenset[int] = frozenset()  # those that may not
    progress: Progress = no_progress  # told after each unit of work
    seed: int = 0  # of whatever is random

    def tokens(self) -> Tensor:
        """The calibration tokens on the model's device, (samples, tokens).

        Raises:
            InvalidInput: there are none, or they do not fit the model.
        """
        if self.ids is None:
            raise InvalidInput.field(
                "calibration", "This criterion needs calibration text.", expected="samples of text"
            )
        return self.model.check_ids(self.ids)

    def bounds(self, *, ends: bool = False) -> tuple[int, frozenset[int]]:
        """How many blocks a search is to find, and which may not go.

        Args:
            ends: protect the first and the last block as well.

        Raises:
            InvalidInput: there is no count, or more blocks are to go than may.
        """
        last = self.model.n_blocks - 1
        protected = self.protected | {0, last} if ends else self.protected
        if self.count is None:
            raise InvalidInput.field(
                "blocks",
                "This criterion searches for a set of blocks, so it must know how many go.",
                expected="a number of blocks",
            )
        check_count(self.model.n_blocks, count=self.count, protected=protected)
        return self.count, protected


Criterion = Callable[[ScoringTask[Options]], BlockScores]


def score_blocks(task: ScoringTask[Any]) -> BlockScores:
    """Score all blocks by the criterion whose options the task has.

    Raises:
        InvalidInput: tokens or options do not fit the model.
    """
    criterion: Criterion[Any] = import_module(f"workers.engine.scoring.{task.options.criterion}").score
    return criterion(task)
