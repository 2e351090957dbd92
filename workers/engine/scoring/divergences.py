"""How far from the intact model's predictions a model is without a set of its blocks or of their halves.

Sets are walked together and share what they have in common (`subsets.py`), and one that was judged before is not
judged again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from workers.engine.model.block_model import BlockModel
from workers.engine.model.divergence import kl_from
from workers.engine.scoring.subsets import BLOCKS, Removal, Units, sample_groups, states_at_once, walk

INTACT: Removal = frozenset()


class Divergences:
    """Divergence from the intact model on some samples, remembered for every set that was judged."""

    def __init__(
        self,
        model: BlockModel,
        ids: Tensor,
        *,
        units: Units = BLOCKS,
        on_judged: Callable[[int], None] = lambda sets: None,
    ) -> None:
        """`ids`, (samples, tokens); `units` is what the numbers in a set stand for."""
        self.ids = ids
        self.passes = 0  # applications of a block to the state of one set
        self.known: dict[Removal, float] = {}
        self._model = model
        self._units = units
        self._on_judged = on_judged

    def of(self, sets: Sequence[Removal]) -> list[float]:
        """Mean KL divergence of each set, nats per token."""
        new = [removal for removal in distinct(sets) if removal not in self.known]
        if new:
            parts: dict[Removal, list[Tensor]] = {removal: [] for removal in new}
            wanted = [INTACT, *new]
            held = states_at_once(self._model.n_blocks, wanted, units=self._units)
            for group in sample_groups(self._model, self.ids, held):
                walked = walk(self._model, self.ids[group], wanted, units=self._units, on_pass=self._count)
                states = dict(walked)
                others = [states[removal] for removal in new]
                for removal, found in zip(new, kl_from(self._model, states[INTACT], others), strict=True):
                    parts[removal].append(found)
            for removal, found_parts in parts.items():
                self.known[removal] = float(torch.cat(found_parts).mean())
            self._on_judged(len(new))
        return [self.known[removal] for removal in sets]

    def fittest(self, sets: Sequence[Removal], count: int) -> list[Removal]:
        """The `count` sets with the least divergence, the least first."""
        self.of(sets)
        return sorted(sets, key=lambda removal: (self.known[removal], sorted(removal)))[:count]

    def _count(self) -> None:
        self.passes += 1


def distinct(sets: Sequence[Removal]) -> list[Removal]:
    """Each once, in the order of their first places."""
    return list(dict.fromkeys(sets))
