"""Healing: the checkpoints that it writes, and what comes before a training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from secateur.contract.errors import UnsupportedModel
from secateur.contract.numbers import significant
from secateur.contract.options.recovery.distill import DistillRecovery
from secateur.contract.options.recovery.none import NoRecovery
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.block_model import BlockModel
from workers.engine.model.loading import load_model
from workers.engine.pruning.depth import prune_depth
from workers.engine.recovery import healing, healing_maps
from workers.engine.recovery.healing import Start, healed_start, write_healed
from workers.engine.recovery.healing_maps import CutMap, fit_maps, hold_out
from workers.engine.recovery.job import RecoveryJob
from workers.engine.recovery.least_squares import FittedMap
from workers.engine.runtime import Machine

CPU = Machine(torch.device("cpu"), torch.float32, 1, 0)
ADDS_ITS_MLP = ("llama", "mistral", "gemma", "qwen2", "qwen3", "phi3", "gpt2", "opt", "gpt_neox", "granite", "falcon")


def job_for(source: Path, pruned: Path, kept: list[int], tmp_path: Path) -> RecoveryJob:
    return RecoveryJob(
        pruned=pruned,
        original=Checkpoint.open(source),
        kept=tuple(kept),
        out=tmp_path / "out",
        scratch=tmp_path / "scratch",
        options=NoRecovery(kind="none"),
        machine=CPU,
        texts=SimpleNamespace(fingerprint="0" * 64),  # type: ignore[arg-type]  # healing is given its tokens here
    )


@pytest.mark.parametrize("model_type", ADDS_ITS_MLP)
def test_a_healed_checkpoint_comes_nearer_to_the_original(
    make_model: Callable[..., PreTrainedModel],
    make_ids: Callable[..., Tensor],
    save_model: Callable[..., Path],
    tmp_path: Path,
    model_type: str,
) -> None:
    source = save_model(make_model(model_type, num_hidden_layers=6))
    kept = [0, 1, 3, 5]
    prune_depth(Checkpoint.open(source), tmp_path / "pruned", drop=[2, 4])
    original = BlockModel.from_model(load_model(Checkpoint.open(source), device=CPU.device, dtype=CPU.dtype))
    ids = make_ids(60, 16)
    healed = fit_maps(original, kept, ids)
    assert [(cut.block, cut.last) for cut in healed] == [(1, 2), (3, 4)]
    assert all(cut.error_after < cut.error_before for cut in healed)

    job = job_for(source, tmp_path / "pruned", kept, tmp_path)
    write_healed(job, healed, tmp_path / "healed")
    fresh = make_ids(20, 16, seed=7)
    distances = {}
    for name in ("pruned", "healed"):
        cut = BlockModel.from_model(load_model(Checkpoint.open(tmp_path / name), device=CPU.device, dtype=CPU.dtype))
        ours, theirs = cut.embed(fresh), original.embed(fresh)
        with torch.no_grad():
            for block in cut.blocks([0, 1, 2]):
                ours = block(ours)
            for block in original.blocks(range(5)):
                theirs = block(theirs)
        distances[name] = float((ours - theirs).square().mean() / theirs.square().mean())
    assert distances["healed"] < distances["pruned"]


@pytest.mark.parametrize("model_type", ADDS_ITS_MLP)  # GPT-2 has Conv1D, with biases
def test_what_the_fit_promises_is_what_the_files_compute(
    make_model: Callable[..., PreTrainedModel],
    make_ids: Callable[..., Tensor],
    save_model: Callable[..., Path],
    tmp_path: Path,
    model_type: str,
) -> None:
    source = save_model(make_model(model_type, num_hidden_layers=5))
    kept, ids = [0, 1, 4], make_ids(10, 16)
    prune_depth(Checkpoint.open(source), tmp_path / "pruned", drop=[2, 3])
    original = BlockModel.from_model(load_model(Checkpoint.open(source), device=CPU.device, dtype=CPU.dtype))
    (cut,) = fit_maps(original, kept, ids, ridge=1e-4)
    write_healed(job_for(source, tmp_path / "pruned", kept, tmp_path), [cut], tmp_path / "healed")
    model = BlockModel.from_model(load_model(Checkpoint.open(tmp_path / "healed"), device=CPU.device, dtype=CPU.dtype))
    _, held = hold_out(ids)
    with torch.no_grad():
        state, target = model.embed(held), original.embed(held)
        for block in model.blocks([0, 1]):
            state = block(state)
        for block in original.blocks(range(4)):
            target = block(target)
        p, q = original.head(_through(original, [4], target)), model.head(_through(model, [2], state))
        divergence = F.kl_div(q.log_softmax(-1), p.log_softmax(-1), log_target=True, reduction="none").sum(-1).mean()
    relative = (state - target).square().mean(-1) / target.square().mean(-1)
    assert float(relative.mean()) == pytest.approx(cut.error_after, rel=1e-3)
    assert float(divergence) == pytest.approx(cut.kl_after, rel=1e-3)


def _through(model: BlockModel, order: list[int], state: Tensor) -> Tensor:
    for block in model.blocks(order):
        state = block(state)
    return state


@pytest.mark.parametrize(("model_type", "holds"), [("llama", True), ("gemma2", False)])
def test_before_a_training_it_is_done_where_it_holds_unless_it_was_asked_for(
    make_model: Callable[..., PreTrainedModel],
    make_ids: Callable[..., Tensor],
    save_model: Callable[..., Path],
    tmp_path: Path,
    model_type: str,
    holds: bool,
) -> None:
    source = save_model(make_model(model_type, num_hidden_layers=5))
    kept = [0, 1, 4]
    prune_depth(Checkpoint.open(source), tmp_path / "pruned", drop=[2, 3])
    job = job_for(source, tmp_path / "pruned", kept, tmp_path)
    ids = make_ids(20, 12)
    start = healed_start(job, DistillRecovery(heal=None), ids)
    if holds:
        assert start.path.parent == job.scratch
        assert "was healed" in start.notes[0]
        assert [(cut.block, cut.last, cut.folded) for cut in start.cuts] == [(1, 3, True)]
        assert healed_start(job, DistillRecovery(heal=True), ids) == start  # as the first attempt found it
    else:
        assert start.path == job.pruned
        assert start.cuts == []
        assert start.notes[0].startswith("No healing came before the training. Healing")
        with pytest.raises(UnsupportedModel, match="Healing"):
            healed_start(job, DistillRecovery(heal=True), ids)
    assert healed_start(job, DistillRecovery(heal=False), ids) == Start(job.pruned, [], [])
    narrower = replace(job, whole_blocks=False)
    assert healed_start(narrower, DistillRecovery(heal=None), ids) == Start(job.pruned, [], [])


def test_a_map_that_makes_the_model_worse_is_not_folded_in_and_the_notes_say_so(
    make_model: Callable[..., PreTrainedModel],
    make_ids: Callable[..., Tensor],
    save_model: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = save_model(make_model(num_hidden_layers=5))
    prune_depth(Checkpoint.open(source), tmp_path / "pruned", drop=[2, 3])
    job = job_for(source, tmp_path / "pruned", [0, 1, 4], tmp_path)
    monkeypatch.setattr(healing_maps, "fit_map", lambda *_, **__: FittedMap(-torch.eye(32).double(), 1.0, 1.0, 0.5))
    start = healed_start(job, DistillRecovery(heal=True), make_ids(20, 12))
    (cut,) = start.cuts
    assert not cut.folded
    assert cut.kl_after > cut.kl_before
    assert start.notes == [
        "No map was folded in at the cut after block 1 (to block 3): on held-out samples the best one changes the "
        f"relative error of the state after it from 1.00 to 0.500, but the KL divergence from the original from "
        f"{significant(cut.kl_before)} to {significant(cut.kl_after)} nats per token, which is no gain."
    ]
    weights = "model.safetensors"
    assert (start.path / weights).read_bytes() == (job.pruned / weights).read_bytes()


def test_before_a_training_it_is_fitted_on_a_bounded_part_of_the_text(
    make_model: Callable[..., PreTrainedModel],
    make_ids: Callable[..., Tensor],
    save_model: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = save_model(make_model(num_hidden_layers=5))
    prune_depth(Checkpoint.open(source), tmp_path / "pruned", drop=[2, 3])
    job = job_for(source, tmp_path / "pruned", [0, 1, 4], tmp_path)
    seen: list[tuple[int, ...]] = []

    def note(model: BlockModel, kept: list[int], ids: Tensor, **_: object) -> list[CutMap]:
        seen.append(tuple(ids.shape))
        return []

    monkeypatch.setattr(healing, "fit_maps", note)
    for samples, tokens in ((300, 8), (300, 64)):
        monkeypatch.setattr(healing, "HEAL_TOKENS", 640)
        healed_start(job, DistillRecovery(heal=None), make_ids(samples, tokens))
    assert seen == [(80, 8), (10, 64)]
