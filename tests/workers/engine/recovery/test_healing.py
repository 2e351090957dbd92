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
from secateur.contract.options.recovery import DistillRecovery, HealingRecovery, NoRecovery
from secateur.contract.options.texts import LocalText, SelfText
from secateur.contract.results import Healed, HealedCut, RefittedBlocks
from tests.fixtures.text_sources import text_source
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.healing import fit
from workers.engine.healing.judge import hold_out
from workers.engine.healing.least_squares import FittedChange, Sums
from workers.engine.healing.neurons import layout_of
from workers.engine.healing.walk import Healing
from workers.engine.model.block_model import BlockModel
from workers.engine.model.loading import load_model
from workers.engine.pruning.depth import prune_depth
from workers.engine.recovery import healing
from workers.engine.recovery.healing import Start, given_tokens, healed_start, with_own_text
from workers.engine.recovery.job import RecoveryJob
from workers.engine.runtime import Machine
from workers.engine.text.calibration import describe_batch, token_batch

CPU = Machine(torch.device("cpu"), torch.float32, 1, 0)
FAMILIES = (
    *("llama", "mistral", "gemma", "qwen2", "qwen3", "phi3", "gpt2", "opt", "gpt_neox", "granite", "falcon"),
    *("gemma2", "gemma3_text", "olmo2", "qwen3_moe", "mixtral"),
)


def job_for(source: Path, pruned: Path, kept: list[int], tmp_path: Path) -> RecoveryJob:
    return RecoveryJob(
        pruned=Checkpoint.open(pruned),
        original=Checkpoint.open(source),
        kept=tuple(kept),
        out=tmp_path / "out",
        scratch=tmp_path / "scratch",
        options=NoRecovery(kind="none"),
        machine=CPU,
        texts=SimpleNamespace(fingerprint="0" * 64),  # type: ignore[arg-type]  # healing is given its tokens here
    )


@pytest.mark.thorough
@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_healed_checkpoint_is_what_was_fitted_and_comes_nearer_to_the_original(
    make_model: Callable[..., PreTrainedModel],
    make_ids: Callable[..., Tensor],
    save_model: Callable[..., Path],
    tmp_path: Path,
    model_type: str,
) -> None:
    """GPT-2 has Conv1D, with biases; a mixture's experts lie on disk one by one and are left as they are."""
    more = {"layer_types": ["sliding_attention", "full_attention"] * 3} if model_type == "gemma3_text" else {}
    source, kept = save_model(make_model(model_type, num_hidden_layers=6, **more)), [0, 1, 4, 5]
    prune_depth(Checkpoint.open(source), tmp_path / "pruned", drop=[2, 3])
    job, ids = job_for(source, tmp_path / "pruned", kept, tmp_path), make_ids(60, 16)
    start = healed_start(job, DistillRecovery(heal=True), ids)
    (cut,) = start.healed.cuts
    assert (cut.block, cut.last, cut.folded) == (1, 3, True)
    steps: list[HealedCut | RefittedBlocks] = [cut, *start.healed.refitted]
    assert all(step.folded for step in steps)
    original = BlockModel.from_model(load_model(Checkpoint.open(source), device=CPU.device, dtype=CPU.dtype))
    healed = BlockModel.from_model(load_model(start.checkpoint, device=CPU.device, dtype=CPU.dtype))
    _, held = hold_out(ids)
    assert _divergence(original, healed, held) == pytest.approx(steps[-1].kl_after, rel=1e-3)
    pruned = BlockModel.from_model(load_model(Checkpoint.open(tmp_path / "pruned"), device=CPU.device, dtype=CPU.dtype))
    fresh = make_ids(20, 16, seed=7)
    assert _divergence(original, healed, fresh) < _divergence(original, pruned, fresh)


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "phi3"])
def test_a_checkpoint_with_neurons_of_removed_blocks_is_what_was_fitted(
    make_model: Callable[..., PreTrainedModel],
    make_ids: Callable[..., Tensor],
    save_model: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model_type: str,
) -> None:
    """Phi-3 has gate and up in one matrix, GPT-2 has no gate and biases."""
    model, ids = make_model(model_type, num_hidden_layers=5), make_ids(60, 16)
    view = BlockModel.from_model(model)
    for block in view.blocks([1, 2]):
        layout = layout_of(block, torch.randn(1, 8, 32, generator=torch.Generator().manual_seed(0)))
        assert layout is not None
        places, factor = (slice(0, layout.count // 2), 1e-3) if block.index == 1 else (slice(8, 16), 4.0)
        for stretch in (*layout.rows, *layout.biases):  # idle ones, and some that do much
            stretch.of(block.module.get_parameter(stretch.name).data, layout.count)[places] *= factor
    source = save_model(model)
    prune_depth(Checkpoint.open(source), tmp_path / "pruned", drop=[2, 3])
    job = job_for(source, tmp_path / "pruned", [0, 1, 4], tmp_path)
    info = describe_batch(ids, description="random", source="local", identity="random")
    monkeypatch.setattr(healing, "given_tokens", lambda job, options: (ids, info))
    options = HealingRecovery.model_validate({"kind": "healing", "neurons": 0.5, "own_text": 0, "refit": "none"})
    outcome = healing.recover(job, options)
    assert outcome.healed is not None
    (cut,) = outcome.healed.cuts
    assert cut.folded
    assert cut.neurons > 0
    assert f"and {cut.neurons} neurons of the removed blocks: on held-out samples" in outcome.notes[0]
    original, healed = (
        BlockModel.from_model(load_model(Checkpoint.open(folder), device=CPU.device, dtype=CPU.dtype))
        for folder in (source, job.out / "checkpoint")
    )
    _, held = hold_out(ids)
    assert _divergence(original, healed, held) == pytest.approx(cut.kl_after, rel=1e-3)


@torch.no_grad()
def _divergence(original: BlockModel, model: BlockModel, ids: Tensor) -> float:
    p, q = (_logits(view, ids).log_softmax(-1).flatten(0, 1) for view in (original, model))
    return float(F.kl_div(q, p, log_target=True, reduction="batchmean"))


def _logits(view: BlockModel, ids: Tensor) -> Tensor:
    state = view.embed(ids)
    for block in view.blocks():
        state = block(state)
    return view.head(state)


def test_before_a_training_it_is_done_where_there_is_a_cut_unless_it_was_asked_for(
    make_model: Callable[..., PreTrainedModel],
    make_ids: Callable[..., Tensor],
    save_model: Callable[..., Path],
    tmp_path: Path,
) -> None:
    source, ids = save_model(make_model(num_hidden_layers=5)), make_ids(20, 12)
    prune_depth(Checkpoint.open(source), tmp_path / "pruned", drop=[2, 3])
    job = job_for(source, tmp_path / "pruned", [0, 1, 4], tmp_path)
    start = healed_start(job, DistillRecovery(heal=None), ids)
    assert start.checkpoint.path.parent == job.scratch
    assert "was healed" in start.notes[0]
    assert [(cut.block, cut.last, cut.folded) for cut in start.healed.cuts] == [(1, 3, True)]
    assert [group.blocks for group in start.healed.refitted] == [[4]]
    again = healed_start(job, DistillRecovery(heal=True), ids)  # as the first attempt found it
    assert (again.checkpoint.path, again.healed, again.notes) == (start.checkpoint.path, start.healed, start.notes)
    assert healed_start(job, DistillRecovery(heal=False), ids) == Start(job.pruned, Healed(), [])
    narrower = replace(job, whole_blocks=False)
    assert healed_start(narrower, DistillRecovery(heal=None), ids) == Start(job.pruned, Healed(), [])

    prune_depth(Checkpoint.open(source), tmp_path / "later", drop=[0, 1])
    job = job_for(source, tmp_path / "later", [2, 3, 4], tmp_path / "second")
    start = healed_start(job, DistillRecovery(heal=None), ids)
    assert (start.checkpoint, start.healed) == (job.pruned, Healed())
    assert start.notes[0].startswith("No healing came before the training. Healing mends cuts")
    with pytest.raises(UnsupportedModel, match="there is none with a block before it"):
        healed_start(job, DistillRecovery(heal=True), ids)


def test_what_makes_the_model_worse_is_not_taken_and_the_notes_say_so(
    make_model: Callable[..., PreTrainedModel],
    make_ids: Callable[..., Tensor],
    save_model: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = save_model(make_model(num_hidden_layers=5))
    prune_depth(Checkpoint.open(source), tmp_path / "pruned", drop=[2, 3])
    job = job_for(source, tmp_path / "pruned", [0, 1, 4], tmp_path)

    def random(sums: Sums, *_: object, **__: object) -> FittedChange:
        assert sums.cross is not None
        change = torch.randn(sums.cross.shape, generator=torch.Generator().manual_seed(1))
        return FittedChange(change, 1.0, 1.0, 0.5)

    monkeypatch.setattr(fit, "fit_change", random)
    start = healed_start(job, DistillRecovery(heal=True), make_ids(20, 12))
    (cut,), (group,) = start.healed.cuts, start.healed.refitted
    assert not cut.folded
    assert cut.kl_after > cut.kl_before == group.kl_before
    assert start.notes == [
        "The block before the cut after block 1 (to block 3) stays as it is: on held-out samples the best change found "
        "takes the relative error of the state after it from 1.00 to 0.500, but the KL divergence from the original "
        f"from {significant(cut.kl_before)} to {significant(cut.kl_after)} nats per token, which is no gain.",
        "Block 4 stays as it is: fitted anew, the KL divergence on held-out samples would have gone from "
        f"{significant(group.kl_before)} to {significant(group.kl_after)} nats per token, which is no gain.",
    ]
    weights = "model.safetensors"
    assert (start.checkpoint.path / weights).read_bytes() == (job.pruned.path / weights).read_bytes()


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

    def note(model: BlockModel, kept: list[int], ids: Tensor, **_: object) -> Healing:
        seen.append(tuple(ids.shape))
        return Healing([])

    monkeypatch.setattr(healing, "fit_healing", note)
    for samples, tokens in ((300, 8), (300, 64)):
        monkeypatch.setattr(healing, "HEAL_TOKENS", 640)
        healed_start(job, DistillRecovery(heal=None), make_ids(samples, tokens))
    assert seen == [(80, 8), (10, 64)]


def test_text_that_the_original_writes_is_mixed_into_the_one_that_is_given(
    tiny_checkpoint: Callable[..., Path], text_file: Path, tmp_path: Path
) -> None:
    """Evenly, so that what is held out has both; not for a streamed model, nor where the text is its own already."""
    source = tiny_checkpoint(num_hidden_layers=3)
    texts = text_source(source, roots=[text_file.parent], cache=tmp_path / "cache")
    job = replace(job_for(source, source, [0, 2], tmp_path), texts=texts)
    text = LocalText(source="local", path=text_file.name)

    def fitted(job: RecoveryJob, **options: object) -> list[list[int]]:
        asked = HealingRecovery.model_validate({"kind": "healing", "text": text, "tokens": 16, **options})
        ids, info = with_own_text(job, asked, *given_tokens(job, asked))
        assert (info.samples, info.source) == (len(ids), asked.text.source)
        found: list[list[int]] = ids.tolist()
        return found

    def alone(text: LocalText | SelfText, samples: int) -> list[list[int]]:
        found: list[list[int]] = token_batch(texts, text, purpose="training", samples=samples, tokens=16)[0].tolist()
        return found

    given, own = alone(text, 6), alone(SelfText(), 2)
    assert fitted(job, samples=8, own_text=0.25) == [*given[:2], own[0], *given[2:5], own[1], given[5]]
    assert fitted(job, samples=8, own_text=0) == alone(text, 8)
    assert fitted(replace(job, streamed=True), samples=8) == alone(text, 8)
    assert fitted(job, samples=8, text=SelfText()) == alone(SelfText(), 8)
