"""The search over halves against plain rounds over models whose halves are silenced by hooks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from secateur.contract.errors import InvalidInput
from secateur.contract.sub_blocks import unit_names
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.block_model import BlockModel
from workers.engine.scoring.sub_block import score_units


def _silenced(model: PreTrainedModel, units: Collection[str]) -> PreTrainedModel:
    """A copy in which these halves add zeros: the last weight of each is zero."""
    reduced = copy.deepcopy(model)
    with torch.no_grad():
        for unit in units:
            block, _, half = unit.partition(".")
            name = "self_attn.o_proj" if half == "attention" else "mlp.down_proj"
            reduced.get_parameter(f"model.layers.{block}.{name}.weight").zero_()
    return reduced


@pytest.mark.parametrize("streamed", [False, True], ids=["in memory", "streamed"])
def test_equals_plain_rounds(
    streamed: bool,
    make_model: Callable[..., PreTrainedModel],
    make_ids: Callable[..., Tensor],
    save_model: Callable[..., Path],
    token_losses: Callable[..., Tensor],
) -> None:
    model, ids = make_model(num_hidden_layers=5), make_ids(4, 16)
    names = unit_names(5)
    removed: list[str] = []
    losses: list[float] = []
    for _ in range(4):
        found = {
            name: float(token_losses(_silenced(model, [*removed, name]), ids).mean())
            for name in names
            if name not in removed
        }
        best = min(found, key=lambda name: found[name])
        removed.append(best)
        losses.append(found[best])
    view = (
        BlockModel.from_checkpoint(Checkpoint.open(save_model(model)), device="cpu", dtype=torch.float32)
        if streamed
        else BlockModel.from_model(model)
    )
    scores = score_units(view, ids, count=4)
    assert scores.order[:4] == removed
    assert sorted(scores.order) == sorted(names)
    values = dict(zip(scores.units, scores.values, strict=True))
    assert [values[name] for name in removed] == pytest.approx(losses, rel=1e-4)
    assert [entry["removed"] for entry in scores.details["rounds"]] == removed
    assert scores.details["block_passes"] < scores.details["plain_block_passes"]


def test_protected_units_stay(make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]) -> None:
    view = BlockModel.from_model(make_model())
    protected = ["0.attention", "0.mlp", "3.mlp"]
    scores = score_units(view, make_ids(), count=2, protected=protected)
    assert not set(scores.order) & set(protected)


@pytest.mark.parametrize(
    ("options", "pointer"),
    [
        ({"count": 0}, "units"),
        ({"count": 8}, "units"),
        ({"count": 1, "protected": ["4.mlp"]}, "protected"),
    ],
)
def test_what_cannot_be_is_refused(
    options: dict[str, Any],
    pointer: str,
    make_model: Callable[..., PreTrainedModel],
    make_ids: Callable[..., Tensor],
) -> None:
    view = BlockModel.from_model(make_model())
    with pytest.raises(InvalidInput) as caught:
        score_units(view, make_ids(), **options)
    assert caught.value.errors[0].pointer == pointer
