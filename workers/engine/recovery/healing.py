"""Healing: for each cut, a linear map that stands in for the removed blocks, folded into the weights before it.

ReplaceMe (Shopkhoev et al. 2025, arXiv 2505.02819). Before a cut of blocks i+1 … n, block i adds its MLP's output M
to the state A; the removed blocks would have brought that sum to Y_n. The map T that brings A + M T nearest to Y_n by
least squares replaces the down-projection's weight by Tᵀ W (and its bias by Tᵀ b), so the architecture stays as it is.

Three things differ from the paper. The ridge holds T to the identity and not to zero,
T = I + (MᵀM + λI)⁻¹ Mᵀ (Y_n - A - M), so that little text means little change, and not a weaker MLP. λ is chosen on
held-out tokens. And of several cuts each is fitted on the states that the healed model before it gives, so a later map
also mends what earlier ones left.

It holds where a block adds its down-projection's output to the state as it is, up to a factor. That is tested on each
block before a cut: a family with a norm after the MLP (Gemma 2 and 3, OLMo 2) and mixtures of experts are refused.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from app.domain.recovery_options import HealingRecovery, TrainedRecovery
from app.errors import StageFailed, UnsupportedModel
from workers.engine.architectures.architecture import Architecture
from workers.engine.benchmarks.windows import batches
from workers.engine.blocks import Block, BlockModel
from workers.engine.calibration import token_batch
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.names_on_disk import names_on_disk
from workers.engine.checkpoints.patch import Change, patch_checkpoint, together
from workers.engine.models import free_memory
from workers.engine.progress import Progress, no_progress
from workers.engine.recovery.job import RecoveryJob, RecoveryOutcome

HELD_OUT = 0.2  # of the tokens: the ridge is chosen on them
RIDGES = tuple(10.0**power for power in range(-5, 3))  # in units of the mean of MᵀM's diagonal
HEAL_SAMPLES = 256  # of a training text, where healing comes before the training


@dataclass(frozen=True)
class Healed:
    """One cut, healed."""

    block: int  # of the original: the one before the cut
    last: int  # the last block of the cut
    map: Tensor  # T, (hidden, hidden), fp64 on the CPU
    ridge: float
    error_before: float  # mean square of Y_n - A - M over that of Y_n, on held-out tokens
    error_after: float  # the same of Y_n - A - M T


def recover(job: RecoveryJob, options: HealingRecovery) -> RecoveryOutcome:
    """Heal the pruned checkpoint; write `checkpoint/`.

    Raises:
        InvalidInput: the text is too short or cannot be read.
        UnsupportedModel: the method does not hold for the model.
    """
    ids, text = token_batch(
        job.texts,
        options.text,
        purpose="training",
        samples=options.samples,
        tokens=options.tokens,
        bos=options.bos,
        exact=False,
        pointer="/recovery",
        text_pointer="/recovery/text",
        progress=job.progress,
    )
    healed, notes = _heal(job, ids, options.ridge)
    write_healed(job, healed, job.out / "checkpoint")
    return RecoveryOutcome(text, 0, None, notes)


def healed_start(job: RecoveryJob, options: TrainedRecovery, ids: Tensor) -> tuple[Path, list[str]]:
    """The checkpoint that a training begins with, and notes: the pruned one, healed first as the options say.

    Raises:
        UnsupportedModel: healing was asked for, and does not hold for the model.
    """
    if options.heal is False or (options.heal is None and not job.whole_blocks):
        return job.pruned, []
    try:
        return _healed_once(job, ids)
    except UnsupportedModel as error:
        if options.heal:
            raise
        return job.pruned, [f"No healing came before the training. {error.detail}"]


def _healed_once(job: RecoveryJob, ids: Tensor) -> tuple[Path, list[str]]:
    ids = ids[:HEAL_SAMPLES].long()
    key = job.identity(ids=hashlib.sha256(ids.numpy().tobytes()).hexdigest())
    target, record = job.scratch / f"healed-{key[:16]}", f"healed-{key[:16]}.json"

    def heal() -> list[str]:
        healed, notes = _heal(job, ids, None)
        write_healed(job, healed, target)
        return notes

    if not target.is_dir():
        (job.scratch / record).unlink(missing_ok=True)
    return target, list(job.remembered(record, heal))


def _heal(job: RecoveryJob, ids: Tensor, ridge: float | None) -> tuple[list[Healed], list[str]]:
    model = BlockModel.from_model(job.load(job.original))
    healed, skipped = fit_maps(model, job.kept, ids, ridge=ridge, progress=job.progress)
    del model
    free_memory()
    notes = [
        f"The cut after block {cut.block} (to block {cut.last}) was healed with a ridge of {cut.ridge:g}: the relative "
        f"error of the state after it fell from {cut.error_before:.3g} to {cut.error_after:.3g} on held-out tokens."
        for cut in healed
    ]
    if skipped:
        notes.append("The cut at the beginning of the model cannot be healed: no block stands before it.")
    if not healed:
        raise UnsupportedModel("Healing mends cuts of whole blocks, and there is none with a block before it.")
    return healed, notes


@torch.no_grad()
def fit_maps(
    model: BlockModel, kept: Sequence[int], ids: Tensor, *, ridge: float | None = None, progress: Progress = no_progress
) -> tuple[list[Healed], bool]:
    """Fit a map for each cut in one walk over the original's blocks.

    Args:
        model: the original.
        kept: its blocks that the pruned model has, ascending.
        ids: (samples, tokens).

    Returns:
        The cuts that have a block before them, first to last, and whether there is one that has none.

    Raises:
        UnsupportedModel: a block before a cut does not add its MLP's output to the state.
    """
    ends = cut_ends(kept, model.n_blocks)
    pieces = [piece for _, piece in batches(ids)]
    whole = [model.embed(piece) for piece in pieces]  # the original's state
    pruned = list(whole)  # the healed pruned model's
    healed: list[Healed] = []
    waiting: tuple[int, list[Tensor], list[Tensor]] | None = None  # block, and per piece A and M
    for block in model.blocks():
        if block.index in kept:
            if block.index in ends:
                split = [_without_mlp(block, state, model.architecture) for state in pruned]
                waiting = (block.index, [a for a, _ in split], [m for _, m in split])
                pruned = [a + m for a, m in split]
            else:
                pruned = [block(state) for state in pruned]
        whole = [block(state) for state in whole]
        if waiting is not None and block.index == ends[waiting[0]]:
            before, bases, outputs = waiting
            fitted, found, errors = fit_map(outputs, [y - a for y, a in zip(whole, bases, strict=True)], ridge=ridge)
            scale = _mean_square(whole)
            healed.append(Healed(before, block.index, fitted, found, errors[0] / scale, errors[1] / scale))
            pruned = [
                (a.double() + m.double() @ fitted.to(m.device)).to(a.dtype) for a, m in zip(bases, outputs, strict=True)
            ]
            waiting = None
        progress(block.index + 1, model.n_blocks, "blocks")
    return healed, bool(kept) and kept[0] != 0


def cut_ends(kept: Sequence[int], n_blocks: int) -> dict[int, int]:
    """For each kept block that stands before a cut, the last block of the cut.

    >>> cut_ends([0, 1, 4, 6], 8)
    {1: 3, 4: 5, 6: 7}
    """
    following = [*kept[1:], n_blocks]
    return {block: after - 1 for block, after in zip(kept, following, strict=True) if after != block + 1}


def fit_map(
    outputs: Sequence[Tensor], targets: Sequence[Tensor], *, ridge: float | None = None
) -> tuple[Tensor, float, tuple[float, float]]:
    """T that brings M T nearest to the target, held to the identity by a ridge.

    Args:
        outputs: M, each (…, hidden).
        targets: what M T should be, in the same pieces.
        ridge: λ in units of the mean of MᵀM's diagonal; None: chosen on held-out tokens.

    Returns:
        T, (hidden, hidden) fp64 on the CPU; the ridge; and the mean squared error on held-out tokens of M as it is and
        of M T.

    Raises:
        StageFailed: the states are not finite.
    """
    m = torch.cat([piece.reshape(-1, piece.shape[-1]) for piece in outputs])
    residual = torch.cat([piece.reshape(-1, piece.shape[-1]) for piece in targets]) - m
    held = torch.zeros(len(m), dtype=torch.bool)
    held[:: max(2, round(1 / HELD_OUT))] = True
    gram, cross = _moments(m[~held], residual[~held])
    if not torch.isfinite(gram).all():
        raise StageFailed('The states that healing is fitted on are not finite; try "dtype": "float32".')
    values, vectors = torch.linalg.eigh(gram)  # one decomposition serves every ridge
    unit = float(values.clamp(min=0).mean())
    turned = vectors.T @ cross

    def change(weight: float) -> Tensor:
        scaled: Tensor = vectors @ (turned / (values.clamp(min=0) + weight * unit).unsqueeze(1))
        return scaled

    test_m, test_residual = m[held].double().cpu(), residual[held].double().cpu()
    errors = {weight: _mean_square([test_residual - test_m @ change(weight)]) for weight in (ridge, *RIDGES) if weight}
    best = ridge if ridge is not None else min(errors, key=lambda weight: errors[weight])
    return torch.eye(len(gram), dtype=torch.float64) + change(best), best, (_mean_square([test_residual]), errors[best])


def write_healed(job: RecoveryJob, healed: Sequence[Healed], target: Path) -> None:
    """Write the pruned checkpoint with the maps folded into its down-projections."""
    checkpoint = Checkpoint.open(job.pruned)
    model = job.load(job.pruned)
    architecture = BlockModel.from_model(model).architecture
    names = names_on_disk(model, checkpoint)
    changes: dict[str, Change] = {}
    for cut in healed:
        block = f"{architecture.blocks_prefix}.{list(job.kept).index(cut.block)}"
        path = f"{block}.{_down_path(architecture)}"
        turned = isinstance(model.get_submodule(path), Conv1D)
        for part in ("weight", "bias"):
            held = names.get(f"{path}.{part}", ())  # not every projection has a bias
            changes.update(together(checkpoint, held, _folding(cut.map, turned=turned or part == "bias")))
    del model
    shutil.rmtree(target, ignore_errors=True)
    patch_checkpoint(checkpoint, target, changes)


def _folding(fitted: Tensor, *, turned: bool) -> Change:
    def change(weight: Tensor) -> Tensor:
        """(out, in) → Tᵀ W; a bias (out,) and Conv1D's (in, out) → b T, W T."""
        return weight.double() @ fitted if turned else fitted.T @ weight.double()

    return change


def _down_path(architecture: Architecture) -> str:
    return f"{architecture.mlp}.{architecture.down}" if architecture.mlp else architecture.down


def _without_mlp(block: Block, state: Tensor, architecture: Architecture) -> tuple[Tensor, Tensor]:
    """A and M of one block: what leaves it without its down-projection, and what that adds.

    Raises:
        UnsupportedModel: the down-projection's output does not reach the state as it is, up to a factor.
    """
    try:
        down = block.module.get_submodule(_down_path(architecture))
    except AttributeError:
        down = None
    if not isinstance(down, nn.Linear | Conv1D):
        raise UnsupportedModel(
            f"Healing folds a map into a block's one down-projection, which block {block.index} of this "
            f"{architecture.family} model does not have."
        )
    with _output_of(down) as seen:
        whole = block(state)
    with _output_of(down, silent=True):
        base = block(state)
    added, made = (whole - base).float(), seen[0].view_as(whole).float()  # OPT flattens its tokens
    factor = (added * made).sum() / made.square().sum().clamp(min=1e-30)
    if (added - factor * made).square().mean() > 1e-3 * added.square().mean():
        raise UnsupportedModel(
            f"Healing needs a block to add its MLP's output to the state as it is; block {block.index} of this "
            f"{architecture.family} model puts something between, such as a norm."
        )
    return base, (factor * made).to(base.dtype)


@contextmanager
def _output_of(module: nn.Module, *, silent: bool = False) -> Iterator[list[Tensor]]:
    """Record what `module` gives while the block runs; `silent` makes it nothing."""
    seen: list[Tensor] = []

    def hook(_module: nn.Module, _args: Any, output: Tensor) -> Tensor | None:
        seen.append(output.clone())  # some families add to it in place
        return torch.zeros_like(output) if silent else None

    handle = module.register_forward_hook(hook)
    try:
        yield seen
    finally:
        handle.remove()


def _moments(m: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
    """MᵀM and Mᵀ R in fp64, a few thousand tokens at a time."""
    size = m.shape[1]
    gram, cross = (torch.zeros((size, size), dtype=torch.float64, device=m.device) for _ in range(2))
    for start in range(0, len(m), 8192):
        left, right = m[start : start + 8192], residual[start : start + 8192]
        gram += left.double().T @ left.double()
        cross += left.double().T @ right.double()
    return gram.cpu(), cross.cpu()


def _mean_square(pieces: Sequence[Tensor]) -> float:
    return sum(float(piece.double().square().sum()) for piece in pieces) / sum(piece.numel() for piece in pieces)
