"""Healing: what the removed blocks did is taken over by the weights that are left, by least squares.

What is fitted stands in `walk.py`: the block before each cut, and where the options say so the blocks after it.
Only what brings the predictions nearer to the original's goes into the checkpoint, whose shapes stay as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from secateur.contract.errors import UnsupportedModel
from secateur.contract.numbers import plain, significant
from secateur.contract.options.recovery import HealingRecovery
from secateur.contract.options.texts import SelfText, Text, is_written
from secateur.contract.options.training import TrainedRecovery
from secateur.contract.results import Healed, HealedCut, RefittedBlocks, TextInfo
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.healing.changed_weights import names_in_blocks, write_changes
from workers.engine.healing.local_regression import RegressionSettings
from workers.engine.healing.walk import Healing, HealingSettings, fit_healing
from workers.engine.model.loading import free_memory
from workers.engine.progress import Progress
from workers.engine.recovery.clock import TimeUp
from workers.engine.recovery.job import RecoveryJob, RecoveryOutcome
from workers.engine.text.blend import spread
from workers.engine.text.calibration import describe_batch, token_batch

HEAL_SAMPLES = 256  # of a training text, where healing comes before the training,
HEAL_TOKENS = 65_536  # but no more than hold so many tokens
TIME_SHARE = 0.25  # of the minutes that the whole recovery has
NO_TIME = "no-time-to-heal.json"


@dataclass(frozen=True)
class Start:
    """What a training begins with."""

    checkpoint: Checkpoint  # the pruned one, or that with what helps in it
    healed: Healed
    notes: list[str]


def recover(job: RecoveryJob, options: HealingRecovery) -> RecoveryOutcome:
    """Heal the pruned checkpoint; write `checkpoint/`.

    Raises:
        InvalidInput: the text is too short or cannot be read.
        UnsupportedModel: there is no cut with a block before it, or that block can take no neurons.
    """
    ids, text = with_own_text(job, options, *given_tokens(job, options))
    settings = HealingSettings(
        refit=options.refit,
        neurons=options.neurons,
        ridge=options.ridge,
        regression=RegressionSettings(epochs=options.epochs, rank=options.rank),
    )
    healed = _heal(job, ids, settings, job.out / "checkpoint", job.progress)
    return RecoveryOutcome(text, 0, None, healing_notes(healed, job.kept), healed=healed)


def given_tokens(job: RecoveryJob, options: HealingRecovery) -> tuple[Tensor, TextInfo]:
    """The samples of the text that the options name, (samples, tokens), without those that are mixed into it.

    Raises:
        InvalidInput: the text is too short or cannot be read.
    """
    return _tokens(job, options, options.text, options.samples - round(_own_share(job, options) * options.samples))


def with_own_text(job: RecoveryJob, options: HealingRecovery, given: Tensor, info: TextInfo) -> tuple[Tensor, TextInfo]:
    """What is fitted on: the text that is given, and between its samples those that the original writes itself.

    So both kinds are in every part of the samples, those at the end among them, which are held out.
    """
    share = _own_share(job, options)
    count = min(options.samples - len(given), round(len(given) * share / (1 - share)))
    if not share or count < 1:
        return given, info
    own, written = _tokens(job, options, SelfText(), count)
    ids = torch.cat([given, own])[spread([len(given), len(own)])]
    description = f"{len(given)} samples of {info.description}; {count} {written.description}"
    found = describe_batch(
        ids, description=description, source=info.source, identity=info.identity, revision=info.revision
    )
    return ids, found


def _own_share(job: RecoveryJob, options: HealingRecovery) -> float:
    """The share of the samples that is written for the mixture; a streamed model would be read once for each token."""
    return 0.0 if job.writer_streamed or is_written(options.text) else options.own_text


def _tokens(job: RecoveryJob, options: HealingRecovery, text: Text, samples: int) -> tuple[Tensor, TextInfo]:
    return token_batch(
        job.texts,
        text,
        purpose="training",
        samples=max(1, samples),
        tokens=options.tokens,
        bos=options.bos,
        exact=False,
        progress=job.progress,
    )


def healed_start(job: RecoveryJob, options: TrainedRecovery, ids: Tensor) -> Start:
    """The checkpoint that a training begins with: the pruned one, healed first as the options say.

    Raises:
        UnsupportedModel: healing was asked for, and there is nothing to heal.
    """
    warm = options.warm_start is not None  # recovered, and not pruned
    if options.heal is False or warm or (options.heal is None and not job.whole_blocks):
        return Start(job.pruned, Healed(), [])
    try:
        if job.recall(NO_TIME) is None:
            with job.clock.part("healing", job.progress, share=TIME_SHARE) as progress:
                return _healed_once(job, ids, progress)
    except UnsupportedModel as error:
        if options.heal:
            raise
        return Start(job.pruned, Healed(), [f"No healing came before the training. {error.detail}"])
    except TimeUp:
        job.remembered(NO_TIME, lambda: True)  # the next attempt starts as this one
    free_memory()
    note = f"No healing came before the training: it would have taken more than {TIME_SHARE:.0%} of `max_minutes`."
    return Start(job.pruned, Healed(), [note])


def _healed_once(job: RecoveryJob, ids: Tensor, progress: Progress) -> Start:
    ids = ids[: min(HEAL_SAMPLES, max(1, HEAL_TOKENS // ids.shape[1]))].long()
    key = job.identity(ids=hashlib.sha256(ids.numpy().tobytes()).hexdigest())
    target, record = job.scratch / f"healed-{key[:16]}", f"healed-{key[:16]}.json"
    if not target.is_dir():
        (job.scratch / record).unlink(missing_ok=True)
    found = job.remembered(record, lambda: _heal(job, ids, HealingSettings(), target, progress).model_dump())
    healed = Healed.model_validate(found)
    return Start(Checkpoint.open(target), healed, healing_notes(healed, job.kept))


def _heal(job: RecoveryJob, ids: Tensor, settings: HealingSettings, target: Path, progress: Progress) -> Healed:
    """Fit, and write the pruned checkpoint with what helps.

    Raises:
        UnsupportedModel: there is no cut with a block before it.
    """
    names = names_in_blocks(job.pruned, job.kept)
    settings = replace(settings, changeable=lambda block, name: (block, name) in names, seed=job.machine.seed)
    model = job.original_blocks()
    found = fit_healing(model, job.kept, ids, settings=settings, progress=progress)
    del model
    free_memory()
    if not found.cuts:
        raise UnsupportedModel("Healing mends cuts of whole blocks, and there is none with a block before it.")
    write_changes(job.pruned, names, found.taken(), target)
    return as_result(found)


def as_result(found: Healing) -> Healed:
    """What was fitted, as the report has it."""
    return Healed(
        cuts=[
            HealedCut(
                block=cut.block,
                last=cut.last,
                ridge=cut.ridge,
                error_before=cut.error_before,
                error_after=cut.error_after,
                kl_before=cut.kl_before,
                kl_after=cut.kl_after,
                folded=cut.helps,
                neurons=cut.neurons,
            )
            for cut in found.cuts
        ],
        refitted=[
            RefittedBlocks(
                blocks=list(group.blocks), kl_before=group.kl_before, kl_after=group.kl_after, folded=group.helps
            )
            for group in found.refitted
        ],
    )


def healing_notes(healed: Healed, kept: Sequence[int]) -> list[str]:
    """What the report should say, in words."""
    notes = [_of_cut(cut) for cut in healed.cuts] + [_of_blocks(group) for group in healed.refitted]
    if kept[0] != 0:
        notes.append("The cut at the beginning of the model cannot be healed: no block stands before it.")
    return notes


def _of_cut(cut: HealedCut) -> str:
    where = f"the cut after block {cut.block} (to block {cut.last})"
    how = "by training the block before it" if cut.ridge is None else f"with a ridge of {plain(cut.ridge)}"
    if cut.neurons:
        how += f" and {cut.neurons:,} neurons of the removed blocks"
    error = f"{significant(cut.error_before)} to {significant(cut.error_after)}"
    if cut.folded:
        return (
            f"{where[0].upper()}{where[1:]} was healed {how}: on held-out samples the relative error of the state "
            f"after it went from {error}, and the KL divergence from the original from {_divergences(cut)}."
        )
    return (
        f"The block before {where} stays as it is: on held-out samples the best change found takes the relative error "
        f"of the state after it from {error}, but the KL divergence from the original from {_divergences(cut)}, which "
        "is no gain."
    )


def _of_blocks(group: RefittedBlocks) -> str:
    first, last = group.blocks[0], group.blocks[-1]
    which = f"Block {first}" if first == last else f"The {len(group.blocks)} blocks from {first} to {last}"
    if group.folded:
        done = "was" if first == last else "were"
        return f"{which} {done} fitted anew after that: on held-out samples it went from {_divergences(group)}."
    return (
        f"{which} {'stays' if first == last else 'stay'} as {'it is' if first == last else 'they are'}: fitted anew, "
        f"the KL divergence on held-out samples would have gone from {_divergences(group)}, which is no gain."
    )


def _divergences(found: HealedCut | RefittedBlocks) -> str:
    return f"{significant(found.kl_before)} to {significant(found.kl_after)} nats per token"
