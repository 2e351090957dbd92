"""What halves weigh is what pruning them saves, in every family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from transformers import PreTrainedModel

from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.pruning.half_sizes import half_sizes
from workers.engine.pruning.sub_block import prune_sub_block


def test_every_family(
    family: str, make_model: Callable[..., PreTrainedModel], save_model: Callable[..., Path], tmp_path: Path
) -> None:
    source = Checkpoint.open(save_model(make_model(family)))
    parameters, size = half_sizes(source, in_bytes=False), half_sizes(source, in_bytes=True)
    done = prune_sub_block(source, tmp_path / "pruned", drop=["1.attention", "2.mlp"])
    assert done.parameters_before - done.parameters_after == parameters[1, "attention"] + parameters[2, "mlp"]
    assert done.bytes_before - done.bytes_after == size[1, "attention"] + size[2, "mlp"]
