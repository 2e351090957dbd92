"""Training samples, all of one length, and how several become a micro-batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from secateur.contract.training_steps import held_out

LABELS = "labels"  # column: what is to be predicted, or that nothing is
REAL_TOKENS = "real_tokens"  # column: tokens of a sample that are no padding

Batch = dict[str, Tensor]


class Sequences:
    """Samples of equal length for next-token training.

    Labels are the tokens themselves unless `columns` has others; the loss shifts them.
    """

    def __init__(self, ids: Tensor, columns: Mapping[str, Tensor] | None = None, *, rows: Tensor | None = None) -> None:
        """`ids` is (samples, tokens); `columns` holds tensors with the same first dimension.

        Args:
            rows: which of them these are; None: all. What is mapped from a file stays there.
        """
        self.ids = ids
        self.columns = dict(columns or {})
        self._rows = rows

    def __len__(self) -> int:
        return len(self.ids if self._rows is None else self._rows)

    def __getitem__(self, index: int) -> Batch:
        at = index if self._rows is None else int(self._rows[index])
        ids = self.ids[at].long()  # those of a long text are mapped from a file, in fewer bytes
        row = {
            "input_ids": ids,
            LABELS: ids,
            REAL_TOKENS: torch.tensor(self.ids.shape[1]),
        }
        return {**row, **{name: values[at] for name, values in self.columns.items()}}

    def take(self, rows: Tensor) -> Sequences:
        """These rows alone."""
        return Sequences(self.ids, self.columns, rows=rows if self._rows is None else self._rows[rows])

    def split(self, fraction: float, *, seed: int) -> tuple[Sequences, Sequences | None]:
        """Samples to train on, and samples held out at random (None where the fraction is 0)."""
        if not fraction:
            return self, None
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        held = held_out(len(self), fraction)
        return self.take(order[held:].sort().values), self.take(order[:held].sort().values)

    def batch(self, rows: Sequence[int]) -> Batch:
        """These samples, stacked; what is padding in all of them is cut off."""
        samples = [self[row] for row in rows]
        batch = {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}
        if "attention_mask" not in batch:
            return batch
        longest, whole = int(batch["attention_mask"].sum(1).max()), batch["input_ids"].shape[1]
        return {
            name: value[:, :longest] if value.dim() == 2 and value.shape[1] == whole else value
            for name, value in batch.items()
        }
