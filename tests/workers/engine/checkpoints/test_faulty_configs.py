"""Faults in a config.json, one at a time: each is told as the model's, or does no harm; none breaks a stage."""

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

from secateur.contract.errors import InvalidInput
from workers.engine.checkpoints.check_fit import check_fit
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.parameters import count_parameters
from workers.engine.model.block_model import BlockModel
from workers.engine.model.loading import load_model
from workers.engine.pruning.depth import prune_depth

# What a file may say instead, and whether that is another model, which must be refused.
REFUSED: dict[str, list[Any]] = {
    "model_type": ["frobnicate", 5, None, "", "bert", [], {}],
    "num_hidden_layers": ["4", None, 0, -1, 3, 5, 4.0, True, [4], 10**9],
    "hidden_size": ["32", None, 0, -32, 31, 1.5, [32]],
    "num_attention_heads": ["4", None, 0, 3, 5, -4],
    "num_key_value_heads": ["2", 0, 3, -2, 2.5],
    "intermediate_size": ["48", None, 0, -1],
    "vocab_size": ["96", None, 0, -1, 104],
    "head_dim": [0, -1, 7, "16"],
    "hidden_act": ["frob", None, 5, []],
    "rope_parameters": [
        {"rope_type": "frob"},
        "x",
        {"rope_type": "yarn", "factor": "a"},
        5,
        {"rope_type": "linear", "factor": math.nan, "rope_theta": 1e4},
        {"rope_type": "linear", "factor": 1e300, "rope_theta": 1e4},
        {"rope_type": "yarn", "factor": 0.0, "rope_theta": 1e4},
        {"rope_type": "default", "rope_theta": 0.0},
    ],
    "dtype": ["bf17", 5, {}],
    "layer_types": [["frob"] * 4, ["full_attention"] * 3, "x", 5, [1, 2, 3, 4]],
    "quantization_config": [5, "x", {"quant_method": "frob"}, []],
    "architectures": ["x", 5, ["T5ForConditionalGeneration"]],
    "sliding_window": ["x"],
    "rms_norm_eps": ["x", None],
    "attention_bias": ["x", True],
    "is_encoder_decoder": [True],
    "tie_word_embeddings": [False],
}
HARMLESS: dict[str, list[Any]] = {
    "n_layer": ["4", None],
    "activation_function": ["frob"],
    "num_local_experts": [0, "x"],
    "transformers_version": [5],
    "_name_or_path": [5],
    "problem_type": ["x"],
    # in what form a program liked to have the model's answers
    "return_dict": [False],
    "use_return_dict": [False],
    "output_hidden_states": [True],
    "torchscript": [True],
}


@pytest.fixture(autouse=True)
def no_trial_of_configs() -> None:
    """Here they are tried in a child first, as in a stage."""


def walk(folder: Path, out: Path, ids: Tensor) -> None:
    """What the stages do to a checkpoint, from the first look to a forward pass of what was pruned."""
    checkpoint = Checkpoint.open(folder)
    check_fit(checkpoint)
    count_parameters(checkpoint.config)
    prune_depth(Checkpoint.open(folder), out, drop=[1])
    view = BlockModel.from_checkpoint(Checkpoint.open(folder), device="cpu", dtype=torch.float32)
    with torch.no_grad():
        state = view.embed(ids)
        for block in view.blocks():
            state = block(state)
        for path in (folder, out):
            load_model(Checkpoint.open(path), device=torch.device("cpu"), dtype=torch.float32)(ids)


@pytest.mark.thorough
@pytest.mark.parametrize("key", [*REFUSED, *HARMLESS])
def test_one_entry_at_a_time(
    key: str,
    make_model: Callable[..., PreTrainedModel],
    save_model: Callable[..., Path],
    make_ids: Callable[..., Tensor],
    tmp_path: Path,
) -> None:
    folder = save_model(make_model("llama"))
    written = json.loads((folder / "config.json").read_text())
    for number, value in enumerate([*REFUSED.get(key, []), *HARMLESS.get(key, [])]):
        (folder / "config.json").write_text(json.dumps({**written, key: value}))
        if key in HARMLESS:
            walk(folder, tmp_path / f"pruned-{number}", make_ids())
            continue
        with pytest.raises(InvalidInput) as caught:
            walk(folder, tmp_path / f"pruned-{number}", make_ids())
        for error in caught.value.errors:  # what names no field is put to the model's own by the check
            # by an argument of the engine, or by the field where the contract itself has a limit
            assert error.pointer.startswith(("model", "weights", "/model")), value
            assert error.expected, value
        assert not (tmp_path / f"pruned-{number}").exists(), value


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("hidden_act", "frob", "does not build a llama model, by its entry hidden_act: KeyError: 'frob'"),
        ("head_dim", 0, "by its entry head_dim: "),
        ("hidden_size", 31, "by its entry hidden_size: "),
        (
            "rope_parameters",
            {"rope_type": "linear", "factor": 1e300, "rope_theta": 1e4},
            r"has the frequencies \[0.0, 0.0, 0.0, 0.0\], by its entry rope_parameters",
        ),
        (
            "rope_parameters",
            {"rope_type": "default", "rope_theta": 0.0},
            r"has the frequencies \[1.0, 'inf', 'inf', 'inf'\], by its entry rope_parameters",
        ),
    ],
)
def test_the_entry_that_is_to_blame_is_named(
    key: str,
    value: Any,
    words: str,
    make_model: Callable[..., PreTrainedModel],
    save_model: Callable[..., Path],
) -> None:
    folder = save_model(make_model("llama"))
    written = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**written, key: value}))
    with pytest.raises(InvalidInput, match=words):
        check_fit(Checkpoint.open(folder))


def test_a_setting_that_stops_the_model_itself_is_named(
    make_model: Callable[..., PreTrainedModel], save_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by leaving out one entry after the other, as nothing in the library's error says which it was."""
    folder = save_model(make_model("llama", attention_bias=True))
    run = type(make_model("llama")).forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.config.attention_bias:
            raise TypeError("it will not")
        return run(self, *args, **kwargs)

    monkeypatch.setattr("transformers.models.llama.modeling_llama.LlamaForCausalLM.forward", forward)
    with pytest.raises(InvalidInput, match="cannot be run, by its entry attention_bias: TypeError: it will not"):
        check_fit(Checkpoint.open(folder))


def test_entries_that_are_missing(
    make_model: Callable[..., PreTrainedModel],
    save_model: Callable[..., Path],
    make_ids: Callable[..., Tensor],
    tmp_path: Path,
) -> None:
    folder = save_model(make_model("llama"))
    written = json.loads((folder / "config.json").read_text())
    for key in ("model_type", "hidden_size", "num_hidden_layers", "num_key_value_heads", "intermediate_size"):
        (folder / "config.json").write_text(json.dumps({name: value for name, value in written.items() if name != key}))
        with pytest.raises(InvalidInput):
            walk(folder, tmp_path / key, make_ids())


@pytest.mark.parametrize(
    "fault", [RuntimeError, AttributeError, ImportError, ZeroDivisionError, AssertionError, OSError]
)
def test_whatever_a_family_raises_while_it_is_loaded(
    fault: type[Exception],
    make_model: Callable[..., PreTrainedModel],
    save_model: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = save_model(make_model("llama"))

    def broken(*args: Any, **kwargs: Any) -> None:
        raise fault("in the\nmiddle")

    monkeypatch.setattr("workers.engine.model.loading.AutoModelForCausalLM.from_pretrained", broken)
    with pytest.raises(InvalidInput, match=r"cannot be loaded: (\w+: )?in the middle") as caught:
        load_model(Checkpoint.open(folder), device=torch.device("cpu"), dtype=torch.float32)
    assert caught.value.errors[0].pointer == "model"
    monkeypatch.setattr("workers.engine.architectures.discovery.cast", broken)
    with pytest.raises(InvalidInput, match=r"does not build a llama model: (\w+: )?in the middle"):
        check_fit(Checkpoint.open(folder))
