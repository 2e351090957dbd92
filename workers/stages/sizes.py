"""The sizes stage: models between the recovered one and the original, each a checkpoint in `<name>/checkpoint/`."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence

from secateur.contract.between import BetweenSizes, ModelBetween
from secateur.contract.errors import InvalidInput, UnsupportedModel
from secateur.contract.options.sizes import MOST, Sizes
from secateur.contract.stage_kinds import PRUNE, RECOVER
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.parameters import count_parameters
from workers.engine.pruning.put_back import Between, put_back, sizes_between
from workers.reporting import model_card
from workers.stages.context import StageContext, part
from workers.stages.fields import MODEL, told_in
from workers.stages.original import Original, open_original


@told_in("/sizes", MODEL)
def run(context: StageContext) -> BetweenSizes:
    """Make the models that the spec asks for, as far as there are any.

    Raises:
        StageFailed: the disk is full.
    """
    began = time.monotonic()
    options = context.stage.spec.sizes
    assert options is not None, "only then there is such a stage"
    pruned, original = context.read(PRUNE), open_original(context)
    asked, notes = chosen(options, original.info.blocks, pruned.dropped)
    recovered = Checkpoint.open(context.input(RECOVER) / "checkpoint")
    made = []
    for model in asked:
        try:
            made.append(_make(context, original, recovered, pruned.dropped, model))
        except UnsupportedModel as error:
            notes.append(f"There is no model of {model.blocks} blocks. {error.detail}")
    return BetweenSizes(models=made, end=options.end, seconds=time.monotonic() - began, notes=notes)


@part("put blocks back")
def _make(
    context: StageContext, original: Original, recovered: Checkpoint, dropped: Sequence[int], model: Between
) -> ModelBetween:
    name = f"{model.blocks}-blocks"
    target = context.out / name / "checkpoint"
    shutil.rmtree(target.parent, ignore_errors=True)  # of an attempt that was killed
    target.parent.mkdir(parents=True)
    put_back(original.checkpoint, recovered, target, dropped=dropped, model=model, progress=context.progress)
    written = Checkpoint.open(target)
    made = ModelBetween(
        name=name,
        blocks=model.blocks,
        put_back=list(model.put_back),
        originals=(model.originals.start, model.originals.stop - 1),
        parameters=count_parameters(written.config).total,
        bytes=written.total_bytes,
    )
    model_card.write(target, pruned=context.read(PRUNE), recovered=context.read(RECOVER), between=made)
    return made


def chosen(options: Sizes, count: int, dropped: Sequence[int]) -> tuple[list[Between], list[str]]:
    """The models to make, and what is to be said of those that there are not.

    Args:
        count: of the original's blocks.
    """
    there_are = sizes_between(count, dropped, end=options.end)
    if not there_are:
        return [], [
            "There is no model between the recovered one and the original: the blocks that were removed stood side by "
            "side, so they can only come back together."
        ]
    if options.blocks is None:
        return there_are[:MOST], []
    found: dict[int, Between] = {}
    notes = []
    for blocks in sorted(set(options.blocks)):
        fitting = [model for model in there_are if model.blocks >= blocks]
        if not fitting:
            notes.append(f"There is no model of {blocks} blocks or more but the original.")
            continue
        found.setdefault(fitting[0].blocks, fitting[0])
        if fitting[0].blocks != blocks:
            notes.append(
                f"In place of a model of {blocks} blocks there is one of {fitting[0].blocks}, the next that could be "
                "made: blocks that were removed side by side come back together."
            )
    return list(found.values()), notes


def refuse_sizes(options: Sizes, *, count: int, left: int, dropped: Sequence[int] | None) -> str:
    """Say before the work what is known of the sizes then.

    Args:
        count: of the original's blocks.
        left: of the recovered model's blocks; where that is to be found by measuring, the fewest.
        dropped: the blocks that go, where the spec names them.

    Raises:
        InvalidInput: at the field.
    """
    for index, blocks in enumerate(options.blocks or ()):
        if not left < blocks < count:
            raise InvalidInput.field(
                f"/sizes/blocks/{index}",
                f"A model of {blocks} blocks is not between the recovered one and the original.",
                value=blocks,
                expected=f"more than {left} and fewer than {count}",
            )
    if dropped is not None and not (models := chosen(options, count, sorted(dropped))[0]):
        raise InvalidInput.field(
            "/sizes",
            "No size that is asked for is between the recovered model and the original: blocks that are removed side "
            "by side come back together.",
            value=options.model_dump(mode="json"),
            expected="no `sizes`, or blocks that do not all stand side by side in /pruning/drop",
        )
    if dropped is None:
        return f"some of {left + 1} to {count - 1} blocks"
    return f"models of {', '.join(str(model.blocks) for model in models)} blocks"
