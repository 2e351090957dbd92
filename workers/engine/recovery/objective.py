"""What a training makes small, as plain functions: the loss of a micro-batch, and how much a micro-batch counts.

The loss of a step is the sum of its micro-batches' losses over the sum of what they count, over all processes. So it
does not depend on how the batch is divided: of next-token losses each token counts alike, wherever it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from workers.engine.recovery.sequences import LABELS, Batch

IGNORED = -100  # the label that no loss is taken on
_INPUTS = ("input_ids", "attention_mask", "position_ids")  # what a model reads of a batch


def once(batch: Batch) -> int:
    """Of losses that are means: each micro-batch counts alike."""
    return 1


@dataclass(frozen=True)
class Objective:
    """`loss` is a sum over what `count` counts of a micro-batch."""

    loss: Callable[[nn.Module, Mapping[str, Tensor]], Tensor]
    count: Callable[[Batch], int] = once


def next_token(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """Cross entropy of each token after the first with the model's prediction of it, summed over the labelled ones."""
    out: Any = model(**{name: batch[name] for name in _INPUTS if name in batch})
    labels = next_labels(batch).flatten()
    return F.cross_entropy(out.logits.float().flatten(0, 1), labels, ignore_index=IGNORED, reduction="sum")


def next_labels(batch: Mapping[str, Tensor]) -> Tensor:
    """What is to be predicted at each position, (samples, tokens): the next token, if its loss is taken."""
    return F.pad(batch[LABELS], (0, 1), value=IGNORED)[:, 1:]


def predicted_tokens(batch: Batch) -> int:
    """How many tokens are labelled, after the first of each sample."""
    return int((batch[LABELS][:, 1:] != IGNORED).sum())


NEXT_TOKEN = Objective(next_token, predicted_tokens)
