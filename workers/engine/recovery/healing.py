"""Healing: for each cut, a linear map that stands in for the removed blocks, folded into the weights before it.

ReplaceMe (Shopkhoev et al. 2025, arXiv 2505.02819). Before a cut of blocks i+1 … n, block i adds its MLP's output M
to the state A; the removed blocks would have brought that sum to Y_n. The map T that brings A + M T nearest to Y_n by
least squares replaces the down-projection's weight by Tᵀ W (and its bias by Tᵀ b), so the architecture stays as it is.

Five things differ from the paper. The ridge holds T to the identity and not to zero, so that little text means little
change, and not a weaker MLP. It is chosen on held-out samples. Each token counts by the reciprocal of its Y_n's mean
square. Of several cuts each is fitted on the states that the healed model before it gives, so a later map also mends
what earlier ones left. And a map that does not bring the predictions nearer to the original's is not folded in
(`healing_maps.py`).

It holds where a block adds its down-projection's output to the state as it is, up to a factor. That is tested on each
block before a cut: a family with a norm after the MLP (Gemma 2 and 3, OLMo 2) and mixtures of experts are refused.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from transformers.pytorch_utils import Conv1D

from secateur.contract.errors import UnsupportedModel
from secateur.contract.numbers import plain, significant
from secateur.contract.options.recovery.healing import HealingRecovery
from secateur.contract.options.recovery.trained import TrainedRecovery
from secateur.contract.results import HealedCut, TextInfo
from workers.engine.architectures.config import as_config
from workers.engine.architectures.registry import architecture_of
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.names_on_disk import names_on_disk
from workers.engine.checkpoints.patch import Change, patch_checkpoint, together
from workers.engine.model.loading import free_memory
from workers.engine.model.streaming import empty_model
from workers.engine.progress import Progress
from workers.engine.recovery.clock import TimeUp
from workers.engine.recovery.healing_maps import CutMap, down_path, fit_maps
from workers.engine.recovery.job import RecoveryJob, RecoveryOutcome
from workers.engine.text.calibration import token_batch

HEAL_SAMPLES = 256  # of a training text, where healing comes before the training,
HEAL_TOKENS = 65_536  # but no more than hold so many tokens
TIME_SHARE = 0.25  # of the minutes that the whole recovery has
NO_TIME = "no-time-to-heal.json"


@dataclass(frozen=True)
class Start:
    """What a training begins with."""

    path: Path  # the pruned checkpoint, or that with maps folded in
    cuts: list[HealedCut]
    notes: list[str]


def recover(job: RecoveryJob, options: HealingRecovery) -> RecoveryOutcome:
    """Heal the pruned checkpoint; write `checkpoint/`.

    Raises:
        InvalidInput: the text is too short or cannot be read.
        UnsupportedModel: the method does not hold for the model.
    """
    ids, text = fitting_tokens(job, options)
    cuts = _heal(job, ids, options.ridge, job.out / "checkpoint", job.progress)
    return RecoveryOutcome(text, 0, None, healing_notes(cuts, job.kept), healing=cuts)


def fitting_tokens(job: RecoveryJob, options: HealingRecovery) -> tuple[Tensor, TextInfo]:
    """The text on which the maps are fitted, (samples, tokens).

    Raises:
        InvalidInput: the text is too short or cannot be read.
    """
    return token_batch(
        job.texts,
        options.text,
        purpose="training",
        samples=options.samples,
        tokens=options.tokens,
        bos=options.bos,
        exact=False,
        progress=job.progress,
    )


def healed_start(job: RecoveryJob, options: TrainedRecovery, ids: Tensor) -> Start:
    """The checkpoint that a training begins with: the pruned one, healed first as the options say.

    Raises:
        UnsupportedModel: healing was asked for, and does not hold for the model.
    """
    if options.heal is False or (options.heal is None and not job.whole_blocks):
        return Start(job.pruned, [], [])
    try:
        if job.recall(NO_TIME) is None:
            with job.clock.part("healing", job.progress, share=TIME_SHARE) as progress:
                return _healed_once(job, ids, progress)
    except UnsupportedModel as error:
        if options.heal:
            raise
        return Start(job.pruned, [], [f"No healing came before the training. {error.detail}"])
    except TimeUp:
        job.remembered(NO_TIME, lambda: True)  # the next attempt starts as this one
    free_memory()
    note = f"No healing came before the training: it would have taken more than {TIME_SHARE:.0%} of `max_minutes`."
    return Start(job.pruned, [], [note])


def _healed_once(job: RecoveryJob, ids: Tensor, progress: Progress) -> Start:
    ids = ids[: min(HEAL_SAMPLES, max(1, HEAL_TOKENS // ids.shape[1]))].long()
    key = job.identity(ids=hashlib.sha256(ids.numpy().tobytes()).hexdigest())
    target, record = job.scratch / f"healed-{key[:16]}", f"healed-{key[:16]}.json"
    if not target.is_dir():
        (job.scratch / record).unlink(missing_ok=True)
    found = job.remembered(record, lambda: [cut.model_dump() for cut in _heal(job, ids, None, target, progress)])
    cuts = [HealedCut.model_validate(cut) for cut in found]
    return Start(target, cuts, healing_notes(cuts, job.kept))


def _heal(job: RecoveryJob, ids: Tensor, ridge: float | None, target: Path, progress: Progress) -> list[HealedCut]:
    """Fit the maps, and write the pruned checkpoint with those that help folded in.

    Raises:
        UnsupportedModel: the method does not hold for the model, or there is no cut with a block before it.
    """
    model = job.original_blocks()
    found = fit_maps(model, job.kept, ids, ridge=ridge, progress=progress)
    del model
    free_memory()
    if not found:
        raise UnsupportedModel("Healing mends cuts of whole blocks, and there is none with a block before it.")
    write_healed(job, [cut for cut in found if cut.helps], target)
    return [
        HealedCut(
            block=cut.block,
            last=cut.last,
            ridge=cut.ridge,
            error_before=cut.error_before,
            error_after=cut.error_after,
            kl_before=cut.kl_before,
            kl_after=cut.kl_after,
            folded=cut.helps,
        )
        for cut in found
    ]


def healing_notes(cuts: Sequence[HealedCut], kept: Sequence[int]) -> list[str]:
    """What the report should say, in words."""
    notes = [_note(cut) for cut in cuts]
    if kept[0] != 0:
        notes.append("The cut at the beginning of the model cannot be healed: no block stands before it.")
    return notes


def _note(cut: HealedCut) -> str:
    where = f"the cut after block {cut.block} (to block {cut.last})"
    error = f"{significant(cut.error_before)} to {significant(cut.error_after)}"
    divergence = f"{significant(cut.kl_before)} to {significant(cut.kl_after)} nats per token"
    if cut.folded:
        return (
            f"{where[0].upper()}{where[1:]} was healed with a ridge of {plain(cut.ridge)}: on held-out samples the "
            f"relative error of the state after it went from {error}, and the KL divergence from the original from "
            f"{divergence}."
        )
    return (
        f"No map was folded in at {where}: on held-out samples the best one changes the relative error of the state "
        f"after it from {error}, but the KL divergence from the original from {divergence}, which is no gain."
    )


def write_healed(job: RecoveryJob, healed: Sequence[CutMap], target: Path) -> None:
    """Write the pruned checkpoint with the maps folded into its down-projections.

    Raises:
        UnsupportedModel: the checkpoint holds a down-projection in a form that no map can go into.
    """
    checkpoint = Checkpoint.open(job.pruned)
    config = as_config(checkpoint.config)
    architecture, model = architecture_of(config), empty_model(config, job.machine.dtype)
    names = names_on_disk(model, checkpoint)
    changes: dict[str, Change] = {}
    for cut in healed:
        path = f"{architecture.blocks_prefix}.{job.kept.index(cut.block)}.{down_path(architecture)}"
        turned = isinstance(model.get_submodule(path), Conv1D)
        if not names.get(f"{path}.weight"):
            raise UnsupportedModel(f"The checkpoint holds {path}.weight in a form that healing cannot go into.")
        for part in ("weight", "bias"):
            held = names.get(f"{path}.{part}", ())  # not every projection has a bias
            changes.update(together(checkpoint, held, _folding(cut.map, turned=turned or part == "bias")))
    shutil.rmtree(target, ignore_errors=True)
    patch_checkpoint(checkpoint, target, changes)


def _folding(fitted: Tensor, *, turned: bool) -> Change:
    def change(weight: Tensor) -> Tensor:
        """(out, in) → Tᵀ W; a bias (out,) and Conv1D's (in, out) → b T, W T."""
        return weight.double() @ fitted if turned else fitted.T @ weight.double()

    return change
