"""The prune stage: chooses what goes by the scores, or takes what the spec names, and writes the checkpoint without."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from secateur.contract.depth import check_depth, most_that_may_go, not_gguf, plus_protected
from secateur.contract.errors import FieldError, UnsupportedModel
from secateur.contract.models.quantised import check_quantised
from secateur.contract.options.joint import JointPruning
from secateur.contract.options.method import Method
from secateur.contract.options.pruning import DepthPruning, ExpertPruning, SubBlockPruning
from secateur.contract.options.vocabulary import VocabularyPruning
from secateur.contract.options.width import WidthPruning
from secateur.contract.results import Pruned, PrunedFile
from secateur.contract.stage_kinds import SCORE
from secateur.contract.targets import none_may_go
from workers.engine.architectures.registry import architecture_of
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.computable import refuse_uncomputable
from workers.engine.pruning.depth import blocks_to_keep, prune_depth
from workers.engine.pruning.depth_config import keep_blocks
from workers.engine.pruning.gguf_depth import prune_gguf_depth
from workers.reporting import model_card
from workers.stages.choice import NO_SCORING, chosen, wanted
from workers.stages.context import StageContext, part
from workers.stages.fields import MODEL, PRUNING, told_at, told_in
from workers.stages.original import Original, open_original, source_gguf
from workers.stages.prune_experts import check_mixtures, prune_mixtures
from workers.stages.prune_joint import check_choices, prune_jointly
from workers.stages.prune_sub_block import check_halves, prune_halves
from workers.stages.prune_vocabulary import check_tokens, prune_tokens
from workers.stages.prune_width import check_width, prune_units
from workers.stages.quantise import refuse_unquantisable

Options = TypeVar("Options", bound=Method)


@part("prune")
def prune_blocks(context: StageContext, original: Original, options: DepthPruning) -> Pruned:
    """Depth pruning: whole blocks go, and the files are rewritten without loading the model.

    Raises:
        InvalidInput: the spec names a block that the model does not have, or all of them, or more are to go than may;
            or it asks for a GGUF file of a model that is none.
        UnsupportedModel: a kept block would work differently under its new number.
    """
    began = time.monotonic()
    drop, protected = (list(options.drop), []) if options.drop is not None else chosen(context, original)
    file = source_gguf(context)
    if options.gguf and file is None:
        raise not_gguf()
    done = prune_depth(original.checkpoint, context.out / "checkpoint", drop=drop, progress=context.progress)
    pruned_file, notes = _prune_file(context, file, done.dropped, asked=options.gguf)
    return Pruned(
        kind="depth",
        dropped=done.dropped,
        kept=done.kept,
        parameters_before=done.parameters_before,
        parameters_after=done.parameters_after,
        bytes_before=done.bytes_before,
        bytes_after=done.bytes_after,
        seconds=time.monotonic() - began,
        gguf=pruned_file,
        protected=protected,
        notes=notes,
        model=original.info,
    )


def _prune_file(
    context: StageContext, file: Path | None, drop: Sequence[int], *, asked: bool | None
) -> tuple[PrunedFile | None, list[str]]:
    """Prune the GGUF file that the model came in, and say where that cannot be done unless it was asked for."""
    if file is None or asked is False:
        return None, []
    target = context.out / f"{file.stem}-pruned.gguf"
    try:
        done = prune_gguf_depth(file, target, drop=drop, progress=context.progress)
    except UnsupportedModel as error:
        if asked:
            raise UnsupportedModel(
                error.detail, errors=[FieldError("/pruning/gguf", error.detail, True, "no `gguf`, or other blocks")]
            ) from error
        return None, [f"No GGUF file was written beside the checkpoint. {error.detail}"]
    return PrunedFile(path=target.name, bytes_before=done.bytes_before, bytes_after=done.bytes_after), []


def _left_open(options: DepthPruning, blocks: int, *, plus: bool) -> str:
    """What is known of a job whose depth is to be found by measuring. Raises InvalidInput where no block may go."""
    protected = plus_protected(blocks) if plus else ()
    if not most_that_may_go(blocks, plus=plus):
        raise none_may_go(options, blocks, plus=plus)
    how = "the target takes" if options.target is not None else "the constraints allow"
    if options.best_draft:
        how = "make the best draft"
    return f"of {blocks} blocks, as many go as {how}; {len(protected)} are protected"


@told_at({"weights": "/scoring"})
def check_blocks(context: StageContext, original: Original, options: DepthPruning) -> str:
    """Look before anything is scored. Raises InvalidInput or UnsupportedModel."""
    spec, checkpoint, blocks = context.stage.spec, original.checkpoint, original.info.blocks
    if options.drop is not None:
        check_depth(options, blocks, plus=spec.scoring.plus)
        keep = blocks_to_keep(blocks, options.drop)
        keep_blocks(checkpoint.config, keep, architecture_of(checkpoint.config), tensors=checkpoint.names())
        return f"{blocks - len(keep)} of {blocks} blocks can go"
    refuse_uncomputable(checkpoint.config, expected=NO_SCORING)
    if options.left_open:
        return _left_open(options, blocks, plus=spec.scoring.plus)
    count, protected = wanted(context, original)
    return f"{count} of {blocks} blocks go, {len(protected)} are protected"


@dataclass(frozen=True)
class Pruner(Generic[Options]):
    """What a kind of pruning runs."""

    prune: Callable[[StageContext, Original, Options], Pruned]
    check: Callable[[StageContext, Original, Options], str]  # says what it has seen; raises as `prune` does


def _row(options: type[Options], pruner: Pruner[Options]) -> tuple[type[Method], Pruner[Any]]:
    """A row of the table; a type checker sees that the functions take these options."""
    return options, pruner


# The kinds of pruning, those of width all the same.
PRUNERS: Mapping[type[Method], Pruner[Any]] = dict(
    (
        _row(DepthPruning, Pruner(prune_blocks, check_blocks)),
        _row(SubBlockPruning, Pruner(prune_halves, check_halves)),
        _row(JointPruning, Pruner(prune_jointly, check_choices)),
        _row(WidthPruning, Pruner(prune_units, check_width)),
        _row(ExpertPruning, Pruner(prune_mixtures, check_mixtures)),
        _row(VocabularyPruning, Pruner(prune_tokens, check_tokens)),
    )
)


def pruner_of(options: type[Method]) -> Pruner[Any]:
    """What prunes by options of this class."""
    return next(PRUNERS[kind] for kind in options.__mro__ if kind in PRUNERS)


@told_in("/pruning", {**MODEL, **PRUNING})
def run(context: StageContext) -> Pruned:
    """Prune the original model as the spec asks, and write the checkpoint's model card.

    Raises:
        InvalidInput: what is to be removed does not fit the model, or the result could not be quantised as asked.
        BadCheckpoint: the model's files are broken.
        UnsupportedModel: it is quantised, and more is asked than to remove whole blocks.
    """
    original = open_original(context)
    check_quantised(context.stage.spec, original.checkpoint.config)
    options = context.stage.spec.pruning
    pruned = pruner_of(type(options)).prune(context, original, options)
    if context.stage.spec.quantise:
        refuse_unquantisable(context, Checkpoint.open(context.out / "checkpoint"))
    scores = context.read(SCORE) if context.has(SCORE) else None
    model_card.write(context.out / "checkpoint", pruned=pruned, scores=scores)
    return pruned
