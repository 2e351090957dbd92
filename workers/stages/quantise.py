"""The quantise stage: the final model once more for each way to quantise that the spec names.

A checkpoint lies in `<name>/checkpoint/`, a GGUF file in `<name>/`. What a killed attempt had finished is in the
scratch folder and not made again.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from secateur.contract.options.quantise import (
    GgufQuantisation,
    GptqQuantisation,
    Int4Quantisation,
    Int8Quantisation,
    IntegerOptions,
    VariantOptions,
)
from secateur.contract.results import Quantised, QuantisedVariant, TextInfo
from secateur.contract.stage_kinds import PRUNE, RECOVER, SCORE
from secateur.whole_files import write_whole
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.parameters import count_parameters
from workers.engine.model.loading import free_memory
from workers.engine.quantise.gguf_export import export_gguf, refuse_unsupported
from workers.engine.quantise.gptq import found_in, gptq
from workers.engine.quantise.linear_weights import quantise_linear, targets_of
from workers.engine.quantise.outcome import Outcome
from workers.reporting import model_card
from workers.stages.block_model import block_model
from workers.stages.context import StageContext, part
from workers.stages.fields import MODEL, beneath, told_at, told_in
from workers.stages.original import calibration_tokens, open_original, prepare_machine, source_gguf

Made = tuple[Outcome, TextInfo | None]  # and the text by which the integers were chosen, if by one
Options = TypeVar("Options", bound=VariantOptions)


@dataclass(frozen=True)
class Making(Generic[Options]):
    """One way to quantise, as it is being done."""

    context: StageContext
    source: Checkpoint  # of the final model
    number: int  # of the way in the spec
    options: Options

    @property
    def target(self) -> Path:
        return self.context.scratch / self.options.path


def integers(making: Making[Int8Quantisation | Int4Quantisation]) -> Made:
    options = making.options
    return quantise_linear(
        making.source,
        making.target,
        bits=options.bits,
        group_size=options.group_size,
        progress=making.context.progress,
    ), None


def by_text(making: Making[GptqQuantisation]) -> Made:
    """Integers chosen by GPTQ; the blocks that a killed attempt had finished are in the scratch folder."""
    context, options = making.context, making.options
    machine, original = prepare_machine(context), open_original(context)
    targets = targets_of(making.source, group_size=options.group_size)
    ids, text = calibration_tokens(
        context, original, machine, options.calibration, pointer=f"{_place(making.number)}/calibration"
    )
    walked = context.scratch / f"{options.variant}-blocks"
    gptq(
        block_model(making.source, machine, count_parameters(making.source.config).total),
        making.source,
        ids,
        targets.tensors,
        bits=options.bits,
        group_size=options.group_size,
        dampening=options.dampening,
        scratch=walked,
        progress=context.progress,
    )
    free_memory()
    outcome = quantise_linear(
        making.source,
        making.target,
        bits=options.bits,
        group_size=options.group_size,
        found=found_in(walked),
    )
    shutil.rmtree(walked)
    return outcome, text


def gguf(making: Making[GgufQuantisation]) -> Made:
    return export_gguf(
        making.source,
        making.target,
        kind=making.options.type,
        tokenizer_from=_tokenizer_file(making.context),
        progress=making.context.progress,
    ), None


def refuse_integers(context: StageContext, checkpoint: Checkpoint, options: IntegerOptions) -> None:
    targets_of(checkpoint, group_size=options.group_size)


def refuse_gguf(context: StageContext, checkpoint: Checkpoint, options: GgufQuantisation) -> None:
    refuse_unsupported(checkpoint, tokenizer_from=_tokenizer_file(context))


def _tokenizer_file(context: StageContext) -> Path | None:
    """The GGUF file that the model came in, whose tokenizer is copied, unless tokens of it have gone."""
    return None if context.stage.spec.changes_vocabulary else source_gguf(context)


@dataclass(frozen=True)
class Way(Generic[Options]):
    """What a way to quantise runs."""

    make: Callable[[Making[Options]], Made]
    refuse: Callable[[StageContext, Checkpoint, Options], None]  # before hours of training: what does not hold


def _row(options: type[Options], way: Way[Options]) -> tuple[type[VariantOptions], Way[Any]]:
    """A row of the table; a type checker sees that the functions take these options."""
    return options, way


QUANTISATIONS: Mapping[type[VariantOptions], Way[Any]] = dict(
    (
        _row(Int8Quantisation, Way(integers, refuse_integers)),
        _row(Int4Quantisation, Way(integers, refuse_integers)),
        _row(GptqQuantisation, Way(by_text, refuse_integers)),
        _row(GgufQuantisation, Way(gguf, refuse_gguf)),
    )
)


@told_in("/quantise", MODEL)
def run(context: StageContext) -> Quantised:
    """Quantise the final model in every way that the spec names.

    Raises:
        UnsupportedModel: a way does not hold for the model; the field of the spec is named.
        StageFailed: the disk is full.
    """
    began = time.monotonic()
    ways = context.stage.spec.quantise
    source = Checkpoint.open(context.final_checkpoint())
    made = []
    for number, options in enumerate(ways):
        folder = context.scratch / options.variant
        record = folder / "quantised.json"
        if not record.is_file():  # else made by an attempt that was killed later
            context.log(f"Quantising as {options.variant}.")
            shutil.rmtree(folder, ignore_errors=True)
            variant = _make(context, source, number)
            write_whole(record, variant.model_dump_json().encode())
        made.append(QuantisedVariant.model_validate_json(record.read_bytes()))
    for variant in made:
        (context.scratch / variant.name / "quantised.json").unlink()
        (context.scratch / variant.name).rename(context.out / variant.name)
    return Quantised(variants=made, seconds=time.monotonic() - began)


@part("quantise")
def _make(context: StageContext, source: Checkpoint, number: int) -> QuantisedVariant:
    began = time.monotonic()
    options = context.stage.spec.quantise[number]
    with told_at(_fields(number)):
        outcome, text = QUANTISATIONS[type(options)].make(Making(context, source, number, options))
    variant = QuantisedVariant(
        name=options.variant,
        kind=options.kind,
        options=options.model_dump(mode="json"),
        path=options.path,
        bytes=outcome.bytes,
        file_bytes=path.stat().st_size if (path := context.scratch / options.path).is_file() else None,
        quantised_parameters=outcome.quantised_parameters,
        other_parameters=outcome.other_parameters,
        bits_per_weight=outcome.bits_per_weight,
        relative_error=outcome.relative_error,
        text=text,
        seconds=time.monotonic() - began,
    )
    if (folder := context.scratch / variant.path).is_dir():
        model_card.write(
            folder,
            pruned=context.read(PRUNE),
            scores=context.read(SCORE) if context.has(SCORE) else None,
            recovered=context.read(RECOVER) if context.has(RECOVER) else None,
            quantised=variant,
        )
    return variant


def refuse_unquantisable(context: StageContext, checkpoint: Checkpoint) -> None:
    """Say before hours of training what the quantise stage would say after them.

    Raises:
        UnsupportedModel, InvalidInput: as the quantise stage.
    """
    for number, options in enumerate(context.stage.spec.quantise):
        with told_at(_fields(number)):
            QUANTISATIONS[type(options)].refuse(context, checkpoint, options)


def _fields(number: int) -> dict[str, str]:
    """Of the arguments of a way; one that does not hold for the model or its tokenizer is named as a whole."""
    place = _place(number)
    return {"kind": place, "tokenizer": place, **beneath(place, "calibration", "group_size")}


def _place(number: int) -> str:
    return f"/quantise/{number}"
