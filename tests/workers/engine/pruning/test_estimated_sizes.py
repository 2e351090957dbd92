"""What an estimate says that pruning takes, from the config alone, is what the engine finds that it takes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from secateur.contract.errors import InvalidInput, UnsupportedModel
from secateur.contract.estimates.model import known_model
from secateur.contract.estimates.removal import removal_of
from secateur.contract.models.widths import widths_of
from secateur.contract.options.width import WidthPruning
from secateur.contract.spec import CompressionSpec
from secateur.contract.width import CLOSE
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.parameters import count_parameters
from workers.engine.pruning.sub_block_layout import halves_layout
from workers.engine.pruning.vocabulary import rows_of_tokens
from workers.engine.pruning.width import plan_width, prune_width

Make = Callable[..., PreTrainedModel]
Save = Callable[..., Path]

WIDTHS: tuple[dict[str, Any], ...] = (
    {"kind": "wanda_sp", "ratio": 0.2},
    {"kind": "wanda_sp", "ratio": 0.16, "multiple": 8},
    {"kind": "flap", "ratio": 0.2},
    {"kind": "flap", "ratio": 0.2, "compensate": False},
    {"kind": "flap", "ratio": 0.2, "uniform": False},
    {"kind": "llm_pruner", "ratio": 0.2},
    {"kind": "llm_pruner", "ratio": 0.12, "uniform": False, "keep_first": 1, "keep_last": 1},
)


def spec_of(**pruning: Any) -> CompressionSpec:
    return CompressionSpec.model_validate(
        {"model": {"source": "local", "path": "m"}, "pruning": pruning, "recovery": {"kind": "none"}}
    )


def written(model: PreTrainedModel) -> dict[str, Any]:
    """The config with every entry; as a class writes it, those that have its defaults are left out."""
    found: dict[str, Any] = json.loads(model.config.to_json_string(use_diff=False))
    return found


def test_halves_of_every_family(family: str, make_model: Make, save_model: Save) -> None:
    path = save_model(make_model(family))
    layout, counted = halves_layout(Checkpoint.open(path)), count_parameters(written(make_model(family)))
    for number, block in enumerate(counted.blocks):
        assert block.attention == layout.removed_parameters(number, "attention")
        assert block.mlp == layout.removed_parameters(number, "mlp")


@pytest.mark.parametrize("options", WIDTHS)
def test_widths_of_every_family(family: str, options: dict[str, Any], make_model: Make, save_model: Save) -> None:
    model = make_model(family, intermediate_size=96) if "gpt2" not in family else make_model(family)
    spec = spec_of(**options)
    assert isinstance(spec.pruning, WidthPruning)
    config = written(model)
    checkpoint = Checkpoint.open(save_model(model))
    known = known_model(config)
    assert known is not None
    try:
        plan = plan_width(checkpoint, spec.pruning)
    except UnsupportedModel:
        assert removal_of(spec, known) is None
        return
    found = widths_of(config, spec.pruning)
    assert found is not None
    assert found.budget.before == plan.budget.before
    whole = plan.budget.reached(plan.budget.blocks * plan.budget.groups, 0)
    assert found.budget.reached(found.budget.blocks * found.budget.groups, 0) == pytest.approx(whole)
    assert found.budget.neuron == plan.budget.neuron
    if len(plan.counts) > 1:
        assert (found.budget, found.group_counts) == (plan.budget, plan.counts)


@pytest.mark.parametrize("options", WIDTHS)
def test_what_a_width_method_writes(
    options: dict[str, Any], make_model: Make, save_model: Save, make_ids: Callable[..., Tensor], tmp_path: Path
) -> None:
    model = make_model("llama", num_hidden_layers=6, intermediate_size=256)
    spec = spec_of(**options)
    assert isinstance(spec.pruning, WidthPruning)
    known = known_model(written(model))
    assert known is not None
    done = prune_width(
        Checkpoint.open(save_model(model)),
        tmp_path / "narrow",
        options=spec.pruning,
        ids=make_ids(),
        device="cpu",
        dtype=torch.float32,
    )
    removal = removal_of(spec, known)
    assert removal is not None
    gone = done.parameters_before - done.parameters_after
    if removal.exact:
        assert removal.parameters == gone
        assert removal.bytes == pytest.approx(done.bytes_before - done.bytes_after, rel=0.02)
    else:
        assert abs(removal.parameters - gone) <= removal.spread + 0.01 * done.parameters_before
        assert removal.spread == round(CLOSE * done.parameters_before)


@pytest.mark.parametrize("family", ["mixtral", "qwen2_moe", "qwen3_moe"])
@pytest.mark.parametrize("experts", [1, 3])
def test_experts(family: str, experts: int, make_model: Make) -> None:
    config = written(make_model(family))
    name = "num_local_experts" if "num_local_experts" in config else "num_experts"
    known = known_model(config)
    assert known is not None
    removal = removal_of(spec_of(kind="experts", experts=experts), known)
    fewer = count_parameters({**config, name: 4 - experts, "num_experts_per_tok": min(2, 4 - experts)})
    assert removal is not None
    assert removal.parameters == known.count.total - fewer.total
    assert removal.exact
    dense = known_model(written(make_model("llama")))
    assert dense is not None
    assert removal_of(spec_of(kind="experts", experts=1), dense) is None


def test_a_vocabulary_of_every_family(family: str, make_model: Make, save_model: Save) -> None:
    model = make_model(family)
    config, checkpoint = written(model), Checkpoint.open(save_model(model))
    known = known_model(config)
    assert known is not None
    tokens = int(config["vocab_size"]) // 2
    text = {"source": "named", "name": "ptb"}
    removal = removal_of(spec_of(kind="vocabulary", tokens=tokens, text=text), known)
    assert removal is not None
    assert removal.exact
    fewer = count_parameters({**config, "vocab_size": tokens, "pad_token_id": None})
    assert removal.parameters == known.count.total - fewer.total
    cut = rows_of_tokens(checkpoint, {**checkpoint.config, "vocab_size": tokens, "pad_token_id": None})
    assert sum(math.prod(checkpoint.shape(name)) for name in cut) == 2 * removal.parameters
    with pytest.raises(InvalidInput) as found:
        removal_of(spec_of(kind="vocabulary", tokens=2 * tokens, text=text), known)
    assert found.value.errors[0].pointer == "/pruning/tokens"


def test_a_width_that_cannot_be_reached_is_told_at_its_field(make_model: Make) -> None:
    known = known_model(written(make_model("llama")))
    assert known is not None
    with pytest.raises(InvalidInput) as found:
        removal_of(spec_of(kind="wanda_sp", ratio=0.97), known)
    assert found.value.errors[0].pointer == "/pruning/ratio"
