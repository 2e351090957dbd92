"""Next-token loss against a plain loop over the tokens."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from workers.engine.recovery.objective import IGNORED, NEXT_TOKEN, Objective, next_token, predicted_tokens


@torch.no_grad()
def test_each_labelled_token_after_the_first_counts_once(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    model, ids = make_model(), make_ids(3, 7)
    labels = ids.clone()
    labels[0, :4] = IGNORED
    labels[2] = IGNORED
    logits = model(input_ids=ids).logits.log_softmax(-1)
    expected = [
        -float(logits[row, at - 1, labels[row, at]])
        for row in range(3)
        for at in range(1, 7)
        if labels[row, at] != IGNORED
    ]
    batch = {"input_ids": ids, "labels": labels}
    assert predicted_tokens(batch) == len(expected) == 9
    assert float(next_token(model, batch)) == pytest.approx(math.fsum(expected), rel=1e-5)


@torch.no_grad()
def test_padding_is_not_looked_at(make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]) -> None:
    model, ids = make_model(), make_ids(1, 6)
    mask = torch.tensor([[1, 1, 1, 1, 0, 0]])
    labels = ids.masked_fill(mask == 0, IGNORED)
    padded = {"input_ids": ids, "labels": labels, "attention_mask": mask}
    alone = {"input_ids": ids[:, :4], "labels": ids[:, :4]}
    assert predicted_tokens(padded) == predicted_tokens(alone) == 3
    assert float(next_token(model, padded)) == pytest.approx(float(next_token(model, alone)), rel=1e-5)


def test_a_mean_counts_once() -> None:
    batch = {"labels": torch.zeros(2, 3, dtype=torch.long)}
    assert Objective(next_token).count(batch) == 1
    assert NEXT_TOKEN.count(batch) == 4
