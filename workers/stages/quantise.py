"""The quantise stage: the final model once more for each way to quantise that the spec names.

A checkpoint lies in `<name>/checkpoint/`, a GGUF file in `<name>/`. What a killed attempt had finished is in the
scratch folder and not made again.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from app.domain.jobs import StageName
from app.domain.results import Pruned, Quantised, QuantisedVariant, Recovered, Scores
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.files import write_atomically
from workers.engine.progress import Progress
from workers.engine.quantise.gguf_export import export_gguf, refuse_unsupported
from workers.engine.quantise.linear_weights import quantise_linear, targets_of
from workers.engine.quantise.outcome import Outcome
from workers.reporting import model_card
from workers.stages.context import StageContext
from workers.stages.original import source_gguf

_BITS = {"int8": 8, "int4": 4}


def integers(context: StageContext, source: Path, folder: Path, number: int, progress: Progress) -> Outcome:
    options = context.stage.spec.quantise[number]
    return quantise_linear(
        source,
        folder / path_of(options),
        bits=_BITS[options.kind],
        group_size=options.group_size,
        pointer=f"/quantise/{number}",
        progress=progress,
    )


def gguf(context: StageContext, source: Path, folder: Path, number: int, progress: Progress) -> Outcome:
    options = context.stage.spec.quantise[number]
    return export_gguf(
        source,
        folder / path_of(options),
        type_name=options.type,
        tokenizer_from=source_gguf(context),
        pointer=f"/quantise/{number}",
        progress=progress,
    )


# What each kind of the catalogue runs: how it is made, and where its file or folder lies within that of the variant.
QUANTISATIONS: Mapping[str, Callable[[StageContext, Path, Path, int, Progress], Outcome]] = {
    "gguf": gguf,
    "int4": integers,
    "int8": integers,
}


def path_of(options: Any) -> str:
    """The checkpoint folder or the file of a way to quantise, relative to the stage's folder."""
    if options.kind == "gguf":
        return f"{options.variant}/model-{options.type}.gguf"
    return f"{options.variant}/checkpoint"


def run(context: StageContext) -> Quantised:
    """Quantise the final model in every way that the spec names.

    Raises:
        UnsupportedModel: a way does not hold for the model; the field of the spec is named.
        StageFailed: the disk is full.
    """
    began = time.monotonic()
    ways = context.stage.spec.quantise
    last = StageName.RECOVER if context.has(StageName.RECOVER) else StageName.PRUNE
    source = context.input(last) / "checkpoint"
    made = []
    for number, options in enumerate(ways):
        folder = context.scratch / options.variant
        record = folder / "quantised.json"
        if not record.is_file():  # else made by an attempt that was killed later
            context.log(f"Quantising as {options.variant}.")
            shutil.rmtree(folder, ignore_errors=True)
            variant = _make(context, source, number)
            write_atomically(record, variant.model_dump_json().encode())
        made.append(QuantisedVariant.model_validate_json(record.read_bytes()))
    for variant in made:
        (context.scratch / variant.name / "quantised.json").unlink()
        (context.scratch / variant.name).rename(context.out / variant.name)
    return Quantised(variants=made, seconds=time.monotonic() - began)


def _make(context: StageContext, source: Path, number: int) -> QuantisedVariant:
    began = time.monotonic()
    options = context.stage.spec.quantise[number]
    outcome = QUANTISATIONS[options.kind](context, source, context.scratch, number, context.progress)
    variant = QuantisedVariant(
        name=options.variant,
        kind=options.kind,
        options=options.model_dump(mode="json"),
        path=path_of(options),
        bytes=outcome.bytes,
        quantised_parameters=outcome.quantised_parameters,
        other_parameters=outcome.other_parameters,
        bits_per_weight=outcome.bits_per_weight,
        relative_error=outcome.relative_error,
        seconds=time.monotonic() - began,
    )
    if (folder := context.scratch / variant.path).is_dir():
        model_card.write(
            folder,
            pruned=context.read(StageName.PRUNE, Pruned),
            scores=context.read(StageName.SCORE, Scores) if context.has(StageName.SCORE) else None,
            recovered=context.read(StageName.RECOVER, Recovered) if context.has(StageName.RECOVER) else None,
            quantised=variant,
        )
    return variant


def refuse_unquantisable(context: StageContext, checkpoint: Path) -> None:
    """Say before hours of training what the quantise stage would say after them.

    Raises:
        UnsupportedModel, InvalidInput: as the quantise stage.
    """
    for number, options in enumerate(context.stage.spec.quantise):
        pointer = f"/quantise/{number}"
        if options.kind == "gguf":
            refuse_unsupported(checkpoint, tokenizer_from=source_gguf(context), pointer=pointer)
        else:
            targets_of(Checkpoint.open(checkpoint), group_size=options.group_size, pointer=pointer)
