"""Whether healing holds, from the config alone, is what the walk over real states finds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import Tensor
from transformers import PreTrainedModel

from secateur.contract.errors import UnsupportedModel
from secateur.contract.models.families import family_of
from workers.engine.model.block_model import BlockModel
from workers.engine.recovery.healable import refuse_unhealable
from workers.engine.recovery.healing_maps import without_mlp


def test_each_block_of_every_family_is_judged_as_by_the_walk(
    family: str, make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    model = make_model(family)
    view = BlockModel.from_model(model)
    state = view.embed(make_ids(2, 6))
    holds = 0
    for block in view.blocks():
        try:
            without_mlp(block, state)
        except UnsupportedModel:
            with pytest.raises(UnsupportedModel, match="Healing does not hold") as caught:
                refuse_unhealable(model.config, before=[block.index])
            assert caught.value.errors[0].pointer == "healed"
            with pytest.raises(UnsupportedModel):
                refuse_unhealable(model.config)
        else:
            holds += 1
            refuse_unhealable(model.config, before=[block.index])
    row = family_of(family)
    assert row is not None
    assert row.heals == (holds > 0)
