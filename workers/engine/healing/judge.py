"""What judges a healing: how far from the original a pruned model predicts, on samples that nothing is fitted on.

What is least in the states need not be best in the predictions. So a change is taken only if the pruned model with it
is nearer to the original than without it, by the KL divergence. What is handed out is therefore never further from the
original on those samples than the pruned model was.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from workers.engine.model.batches import batches
from workers.engine.model.block_model import BlockModel
from workers.engine.model.divergence import mean_kl
from workers.engine.progress import Meter

HELD_OUT = 5  # one of so many samples, the last ones,
HELD_TOKENS = 4096  # but no more samples than hold so many tokens


class Judge:
    """Knows what the original predicts on the held-out samples."""

    def __init__(self, model: BlockModel, ids: Tensor, kept: Sequence[int], meter: Meter) -> None:
        """`ids`, (samples, tokens), of the samples; `kept` blocks that the pruned model has."""
        self._model = model
        self._meter = meter
        self._kept = kept
        self._final = self._through([model.embed(piece) for _, piece in batches(ids)], range(model.n_blocks))

    def divergence(self, states: Sequence[Tensor], *, after: int) -> float:
        """Mean KL(original ‖ pruned) over all positions, in nats; `states` left the original's block `after`.

        The kept blocks that follow are as they are.
        """
        theirs = self._through(states, [block for block in self._kept if block > after])
        found = mean_kl(self._model, self._final, theirs)
        self._meter.add(2 * self._model.head_worth * len(theirs))
        return found

    def _through(self, states: Sequence[Tensor], order: Sequence[int]) -> list[Tensor]:
        found = list(states)
        for block in self._model.blocks(order):
            found = [block(state) for state in found]
            self._meter.add(len(found))
        return found


def hold_out(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Samples to fit on, and the last ones to judge on; a single sample is cut in two for it.

    Samples come in the order of their text, so the last are of other documents than the rest. Samples from between
    would share theirs, and a change that holds for these documents alone would pass.

    >>> [len(part) for part in hold_out(torch.zeros((64, 128)))], [len(part) for part in hold_out(torch.zeros((1, 9)))]
    ([52, 12], [1, 1])
    """
    if len(ids) == 1:
        half = ids.shape[1] // 2
        ids = ids[:, : 2 * half].view(2, half)
    count = max(1, min(len(ids) // HELD_OUT, HELD_TOKENS // ids.shape[1]))
    return ids[:-count], ids[-count:]
