"""States of one set of samples on their way through the original and through the healed pruned model at once."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from workers.engine.healing.fit import through
from workers.engine.healing.neurons import Transplant
from workers.engine.healing.projections import Projection, watched
from workers.engine.model.batches import batches
from workers.engine.model.block_model import Block, BlockModel


@dataclass
class Stream:
    """Samples on their way through the original's blocks and through the healed pruned model's."""

    whole: list[Tensor]  # the original's states, in pieces of (samples, tokens, hidden)
    pruned: list[Tensor]  # the same list until a block is gone

    @classmethod
    def of(cls, model: BlockModel, ids: Tensor) -> Stream:
        whole = [model.embed(piece) for _, piece in batches(ids)]
        return cls(whole, whole)

    def pass_both(self, block: Block) -> None:
        """Through a kept block as it is."""
        together = self.pruned is self.whole
        self.pass_whole(block)
        self.pruned = self.whole if together else through(block, self.pruned, {})

    def pass_whole(self, block: Block, transplant: Transplant | None = None) -> None:
        """The original alone; what is given gathers neurons on the way."""
        if transplant is None:
            self.whole = [block(state) for state in self.whole]
        else:
            self.whole = transplant.follow(block, self.whole)

    def pass_halfway(self, block: Block, down: Projection | None) -> list[Tensor]:
        """The original alone; its states before the MLP's output is added, where that can be told."""
        if down is None:
            self.pass_whole(block)
            return []
        halfway, whole = [], []
        with watched(block.module, [down.path]) as seen:
            for state in self.whole:
                left = block(state)
                halfway.append(left - down.added(seen[down.path], left))
                whole.append(left)
        self.whole = whole
        return halfway
