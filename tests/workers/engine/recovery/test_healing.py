"""Healing against plain least squares, and against the models that it makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from app.domain.recovery_options import DistillRecovery
from app.errors import UnsupportedModel
from workers.engine.blocks import BlockModel
from workers.engine.models import load_model
from workers.engine.pruning.depth import prune_depth
from workers.engine.recovery.healing import cut_ends, fit_map, fit_maps, healed_start, write_healed
from workers.engine.recovery.job import RecoveryJob
from workers.engine.runtime import Machine

CPU = Machine(torch.device("cpu"), torch.float32, 1, 0)
ADDS_ITS_MLP = ("llama", "mistral", "gemma", "qwen2", "qwen3", "phi3", "gpt2", "opt", "gpt_neox", "granite", "falcon")


def test_without_a_ridge_the_map_is_that_of_least_squares() -> None:
    generator = torch.Generator().manual_seed(0)
    m = torch.randn(4, 100, 6, generator=generator)
    target = torch.randn(4, 100, 6, generator=generator)
    fitted, ridge, errors = fit_map(list(m), list(target), ridge=1e-12)
    rows = torch.ones(400, dtype=torch.bool)
    rows[::5] = False  # held out
    expected = torch.linalg.lstsq(m.view(400, 6)[rows].double(), target.view(400, 6)[rows].double()).solution
    assert torch.allclose(fitted, expected, atol=1e-8)
    assert ridge == 1e-12
    held = ~rows
    left = target.view(400, 6)[held].double() - m.view(400, 6)[held].double() @ expected
    assert errors[1] == pytest.approx(left.square().mean().item())


def test_a_strong_ridge_leaves_things_as_they_are_and_noise_asks_for_one() -> None:
    generator = torch.Generator().manual_seed(0)
    m, noise = torch.randn(1, 60, 30, generator=generator), torch.randn(1, 60, 30, generator=generator)
    fitted, _, _ = fit_map([m], [m + noise], ridge=1e9)
    assert torch.allclose(fitted, torch.eye(30, dtype=torch.float64), atol=1e-6)
    _, chosen, errors = fit_map([m], [m + noise])
    assert chosen >= 1
    assert errors[1] <= errors[0] * 1.01
    rule = torch.randn(30, 30, generator=generator)
    long = torch.randn(1, 2000, 30, generator=generator)
    fitted, chosen, _ = fit_map([long], [long @ rule])
    assert chosen == 1e-5
    assert torch.allclose(fitted, rule.double(), atol=1e-2)


def test_cuts_are_found_at_the_end_and_in_the_middle() -> None:
    assert cut_ends([0, 1, 4, 6], 8) == {1: 3, 4: 5, 6: 7}
    assert cut_ends([0, 1, 2], 3) == {}
    assert cut_ends([2, 3], 4) == {}


def job_for(source: Path, pruned: Path, kept: list[int], tmp_path: Path) -> RecoveryJob:
    return RecoveryJob(
        pruned=pruned,
        original=source,
        kept=tuple(kept),
        out=tmp_path / "out",
        scratch=tmp_path / "scratch",
        options={},
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
    prune_depth(source, tmp_path / "pruned", drop=[2, 4])
    original = BlockModel.from_model(load_model(source, device=CPU.device, dtype=CPU.dtype))
    ids = make_ids(60, 16)
    healed, skipped = fit_maps(original, kept, ids)
    assert not skipped
    assert [(cut.block, cut.last) for cut in healed] == [(1, 2), (3, 4)]
    assert all(cut.error_after < cut.error_before for cut in healed)

    job = job_for(source, tmp_path / "pruned", kept, tmp_path)
    write_healed(job, healed, tmp_path / "healed")
    fresh = make_ids(20, 16, seed=7)
    distances = {}
    for name in ("pruned", "healed"):
        cut = BlockModel.from_model(load_model(tmp_path / name, device=CPU.device, dtype=CPU.dtype))
        ours, theirs = cut.embed(fresh), original.embed(fresh)
        with torch.no_grad():
            for block in cut.blocks([0, 1, 2]):
                ours = block(ours)
            for block in original.blocks(range(5)):
                theirs = block(theirs)
        distances[name] = float((ours - theirs).square().mean() / theirs.square().mean())
    assert distances["healed"] < distances["pruned"]


def test_what_the_fit_promises_is_what_the_files_compute(
    make_model: Callable[..., PreTrainedModel],
    make_ids: Callable[..., Tensor],
    save_model: Callable[..., Path],
    tmp_path: Path,
) -> None:
    source = save_model(make_model("gpt2", num_hidden_layers=5))  # Conv1D, with biases
    kept, ids = [0, 1, 4], make_ids(10, 16)
    prune_depth(source, tmp_path / "pruned", drop=[2, 3])
    original = BlockModel.from_model(load_model(source, device=CPU.device, dtype=CPU.dtype))
    (cut,), _ = fit_maps(original, kept, ids, ridge=1e-9)
    write_healed(job_for(source, tmp_path / "pruned", kept, tmp_path), [cut], tmp_path / "healed")
    model = BlockModel.from_model(load_model(tmp_path / "healed", device=CPU.device, dtype=CPU.dtype))
    with torch.no_grad():
        state, target = model.embed(ids), original.embed(ids)
        for block in model.blocks([0, 1]):
            state = block(state)
        for block in original.blocks(range(4)):
            target = block(target)
    rows = (state - target).view(-1, state.shape[-1])[::5]
    assert float(rows.square().mean() / target.square().mean()) == pytest.approx(cut.error_after, rel=1e-3)


@pytest.mark.parametrize("model_type", ["gemma2", "gemma3_text", "olmo2", "mixtral"])
def test_families_where_it_does_not_hold_are_refused(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor], model_type: str
) -> None:
    with pytest.raises(UnsupportedModel, match="Healing"):
        fit_maps(BlockModel.from_model(make_model(model_type)), [0, 1, 3], make_ids())


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
    prune_depth(source, tmp_path / "pruned", drop=[2, 3])
    job = job_for(source, tmp_path / "pruned", kept, tmp_path)
    ids = make_ids(20, 12)
    path, notes = healed_start(job, DistillRecovery(heal=None), ids)
    if holds:
        assert path.parent == job.scratch
        assert "was healed" in notes[0]
    else:
        assert path == job.pruned
        assert notes[0].startswith("No healing came before the training. Healing")
        with pytest.raises(UnsupportedModel, match="Healing"):
            healed_start(job, DistillRecovery(heal=True), ids)
    assert healed_start(job, DistillRecovery(heal=False), ids) == (job.pruned, [])
    narrower = replace(job, whole_blocks=False)
    assert healed_start(narrower, DistillRecovery(heal=None), ids) == (job.pruned, [])


def test_a_cut_at_the_beginning_is_told_apart(
    make_model: Callable[..., PreTrainedModel], make_ids: Callable[..., Tensor]
) -> None:
    healed, skipped = fit_maps(BlockModel.from_model(make_model()), [1, 3], make_ids(20, 12))
    assert skipped
    assert [(cut.block, cut.last) for cut in healed] == [(1, 2)]
