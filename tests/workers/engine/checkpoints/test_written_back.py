"""What was trained, merged, healed or quantised is what a reader of the files gets, on every family.

Each family is stored with the tied head beside the embedding that it shares, as other programs write it. transformers
ties two matrices only while they are equal, so a writer that forgets one of them leaves a model that nobody trained.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from secateur.contract.errors import UnsupportedModel
from secateur.contract.options.recovery import ContinuedRecovery, DistillRecovery, LoraRecovery, NoRecovery
from workers.engine.architectures.registry import architecture_of
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.healing.changed_weights import names_in_blocks, write_changes
from workers.engine.healing.projections import changed
from workers.engine.model.loading import load_model
from workers.engine.pruning.depth import prune_depth
from workers.engine.quantise.integers import round_to_integers
from workers.engine.quantise.linear_weights import quantise_linear, targets_of
from workers.engine.recovery import continued, distill, lora
from workers.engine.recovery.job import RecoveryJob
from workers.engine.recovery.lora import add_adapters, write_merged
from workers.engine.recovery.sequences import Sequences
from workers.engine.recovery.weights import train_all, write_weights
from workers.engine.runtime import Machine

CPU = Machine(torch.device("cpu"), torch.float32, 1, 0)
EXPERTS = ("mixtral", "qwen2_moe", "qwen3_moe")


def add_head(folder: Path, model: PreTrainedModel, *, dtype: torch.dtype | None = None) -> None:
    """Store every tied matrix a second time, under the name of the module that shares it."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    for name, source in model.all_tied_weights_keys.items():
        held = model.get_parameter(source).detach()
        assert name not in tensors
        tensors[name] = held.clone() if dtype is None else held.to(dtype)
    save_file(tensors, file, metadata={"format": "pt"})


@pytest.fixture
def stored(family: str, make_model: Callable[..., PreTrainedModel], save_model: Callable[..., Path]) -> Path:
    """A family with a tied head, of which the files hold two copies."""
    model = make_model(family, tie_word_embeddings=True)
    folder = save_model(model)
    add_head(folder, model)
    return folder


def reload(folder: Path) -> Any:
    """As a user loads it."""
    both: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    model, report = both
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    return model.eval()


def disturb(model: Any) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)


def test_trained_weights(stored: Path, family: str, make_ids: Callable[..., Tensor], tmp_path: Path) -> None:
    model: Any = load_model(Checkpoint.open(stored), device=CPU.device, dtype=CPU.dtype)
    train_all(model)
    disturb(model)
    if family in EXPERTS:
        with pytest.raises(UnsupportedModel, match="could not be written back"):
            write_weights(model, Checkpoint.open(stored), tmp_path / "trained")
        return
    write_weights(model, Checkpoint.open(stored), tmp_path / "trained")
    again = reload(tmp_path / "trained")
    ours = dict(model.named_parameters(remove_duplicate=False))
    theirs = dict(again.named_parameters(remove_duplicate=False))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    with torch.no_grad():
        assert torch.equal(model.eval()(make_ids()).logits, again(make_ids()).logits)


def test_merged_adapters(stored: Path, make_ids: Callable[..., Tensor], tmp_path: Path) -> None:
    model = add_adapters(
        load_model(Checkpoint.open(stored), device=CPU.device, dtype=CPU.dtype), LoraRecovery(rank=2, dropout=0), seed=1
    )
    disturb(model)
    model.eval()
    with torch.no_grad():
        expected = model(make_ids()).logits
        write_merged(model, Checkpoint.open(stored), tmp_path / "merged")
        assert torch.allclose(reload(tmp_path / "merged")(make_ids()).logits, expected, atol=2e-4)


def test_healed_projections(stored: Path, family: str, make_ids: Callable[..., Tensor], tmp_path: Path) -> None:
    """What a block is to add to its weights is in the files, under every name that the checkpoint has for it."""
    model: Any = load_model(Checkpoint.open(stored), device=CPU.device, dtype=CPU.dtype)
    checkpoint = Checkpoint.open(stored)
    names = names_in_blocks(checkpoint, (0, 1, 2, 3))
    change: dict[str, Tensor] = {}
    prefix = architecture_of(model.config).blocks_prefix
    block = model.get_submodule(f"{prefix}.1")
    for name, parameter in block.named_parameters():
        if (1, name) in names:
            change[name] = 0.05 * torch.randn(parameter.shape)
    assert change
    assert family in EXPERTS or len(change) == len(list(block.named_parameters()))
    with torch.no_grad(), changed(block, change):
        expected = model(make_ids()).logits
    write_changes(checkpoint, names, {1: change}, tmp_path / "healed")
    with torch.no_grad():
        assert torch.allclose(reload(tmp_path / "healed")(make_ids()).logits, expected, atol=1e-5)


@pytest.mark.thorough
def test_integers(stored: Path, family: str, make_ids: Callable[..., Tensor], tmp_path: Path) -> None:
    if family in (*EXPERTS, "gpt2", "falcon"):  # Falcon's linear maps are of a class of their own
        with pytest.raises(UnsupportedModel, match=r"most of its weights elsewhere|no plain linear layers"):
            quantise_linear(Checkpoint.open(stored), tmp_path / "quantised", bits=8, group_size=None)
        return
    targets = targets_of(Checkpoint.open(stored), group_size=None)
    assert len(targets.tensors) >= 4 * 4
    model: Any = load_model(Checkpoint.open(stored), device=CPU.device, dtype=CPU.dtype)
    quantise_linear(Checkpoint.open(stored), tmp_path / "quantised", bits=8, group_size=None)
    with torch.no_grad():
        for path in targets.tensors.values():
            weight = model.get_submodule(path).weight
            rounded = round_to_integers(weight, bits=8, group_size=None, scale_dtype=torch.bfloat16)
            weight.copy_(rounded.values.float() * rounded.scales.float())
        again = load_model(Checkpoint.open(tmp_path / "quantised"), device=CPU.device, dtype=CPU.dtype)
        assert torch.allclose(again(make_ids()).logits, model(make_ids()).logits, atol=2e-4)


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["continued", "distill", "distill-lora", "lora"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3"], indirect=True)
def test_whole_recoveries(
    kind: str,
    stored: Path,
    make_ids: Callable[..., Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids, text = make_ids(8, 12), SimpleNamespace(sha256="1" * 64)
    original = Checkpoint.open(stored)
    prune_depth(original, tmp_path / "pruned", drop=[2])
    job = RecoveryJob(
        pruned=Checkpoint.open(tmp_path / "pruned"),
        original=original,
        kept=(0, 1, 3),
        out=tmp_path / "out",
        scratch=tmp_path / "scratch",
        options=NoRecovery(kind="none"),
        machine=CPU,
        texts=SimpleNamespace(  # type: ignore[arg-type]  # the tokens are given below
            fingerprint="0" * 64, config=AutoConfig.from_pretrained(stored)
        ),
    )
    module: Any = {"continued": continued, "lora": lora}.get(kind, distill)
    common: dict[str, Any] = {"max_steps": 2, "warmup_steps": 0, "learning_rate": 1e-2, "batch_size": 4}
    options: dict[str, Any] = {
        "continued": ContinuedRecovery(kind="continued", **common),
        "distill": DistillRecovery(train="all", **common),
        "distill-lora": DistillRecovery(train="lora", dropout=0, **common),
        "lora": LoraRecovery(dropout=0, **common),
    }
    monkeypatch.setattr(module, "training_data", lambda job, options: (Sequences(ids), text))
    logits: list[Tensor] = []
    run = module.run_training

    def watch(job: RecoveryJob, options: Any, model: Any, *args: Any, **more: Any) -> Any:
        outcome = run(job, options, model, *args, **more)
        with torch.no_grad():
            logits.append(model.eval()(input_ids=ids).logits)
        return outcome

    monkeypatch.setattr(module, "run_training", watch)
    module.recover(job, options[kind])
    with torch.no_grad():
        before = load_model(Checkpoint.open(tmp_path / "pruned"), device=CPU.device, dtype=CPU.dtype)(ids).logits
        after = reload(tmp_path / "out" / "checkpoint")(ids).logits
    assert torch.allclose(after, logits[0], atol=2e-4)
    assert not torch.allclose(after, before, atol=1e-2)


def test_a_head_beside_the_embedding_in_another_dtype_stays_tied(
    make_model: Callable[..., PreTrainedModel], save_model: Callable[..., Path], tmp_path: Path
) -> None:
    model = make_model("llama").bfloat16()
    folder = save_model(model)
    add_head(folder, model, dtype=torch.float32)
    loaded: Any = load_model(Checkpoint.open(folder), device=CPU.device, dtype=CPU.dtype)
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    train_all(loaded)
    disturb(loaded)
    write_weights(loaded, Checkpoint.open(folder), tmp_path / "trained")
    again = reload(tmp_path / "trained")
    assert again.lm_head.weight is again.model.embed_tokens.weight
    assert torch.equal(again.lm_head.weight, loaded.lm_head.weight.bfloat16().float())


@pytest.mark.parametrize("settings", [{"tie_word_embeddings": True}, {}], ids=["written", "by-default"])
def test_a_head_of_its_own_is_believed_of_the_files_and_not_of_the_config(
    settings: dict[str, Any],
    make_model: Callable[..., PreTrainedModel],
    save_model: Callable[..., Path],
    make_ids: Callable[..., Tensor],
    tmp_path: Path,
) -> None:
    model = make_model("gemma" if not settings else "llama", tie_word_embeddings=False)
    folder = save_model(model)
    config = json.loads((folder / "config.json").read_text())
    config.pop("tie_word_embeddings", None)
    (folder / "config.json").write_text(json.dumps(config | settings))
    assert Checkpoint.open(folder).config["tie_word_embeddings"] is False
    pruned = prune_depth(Checkpoint.open(folder), tmp_path / "pruned", drop=[1])
    assert pruned.parameters_before == sum(parameter.numel() for parameter in model.parameters())
    assert json.loads((tmp_path / "pruned" / "config.json").read_text())["tie_word_embeddings"] is False
    again = reload(tmp_path / "pruned")
    assert again.lm_head.weight is not again.model.embed_tokens.weight
    assert torch.equal(again.lm_head.weight, model.get_parameter("lm_head.weight"))
    assert pruned.parameters_after == sum(parameter.numel() for parameter in again.parameters())
