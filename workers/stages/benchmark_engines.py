"""Speed under the engines that models are deployed with: llama.cpp with GGUF files, vLLM with checkpoints.

Each variant is timed against the original as that engine runs it. A job whose model came as a GGUF file has the
original's file; of another, the original is written in the type that the job quantises to, for the timing alone. What
an engine does, crashing included, leaves the other figures alone: a note says what it did.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from secateur.contract.errors import InvalidInput, UnsupportedModel
from secateur.contract.measurements import EngineCell
from secateur.contract.options.benchmark import EngineName, LatencyBenchmark
from secateur.contract.options.quantise import GgufQuantisation
from secateur.contract.readings import cell_name
from secateur.contract.stage_kinds import PRUNE, QUANTISE
from workers.engine.benchmarks.latency import Cell
from workers.engine.checkpoints.gguf_file import read_gguf_header
from workers.engine.quantise.gguf_export import export_gguf
from workers.engine.runtime import Machine, available_memory
from workers.engine.serving.cells import time_under
from workers.engine.serving.engines import ENGINES, Start
from workers.engine.serving.runner import EngineFailed, Load
from workers.stages.benchmark_speed import grid, timed_as
from workers.stages.benchmark_variants import Variant
from workers.stages.context import StageContext
from workers.stages.original import source_gguf

_WRITTEN = "original-"  # of the folders with the original in a type of GGUF
GPU_SHARE = 0.85  # of what is free of a GPU's memory, for all models that an engine holds at a time
MEMORY_SHARE = 0.7  # of the free memory: files that need more together are timed in pairs


@dataclass(frozen=True)
class Contest:
    """Models that are timed in turn."""

    models: Mapping[Path, Sequence[Variant]]  # file or folder → whose it is, the original's first
    against: str = ""  # as in EngineCell


@dataclass(frozen=True)
class Field:
    """Whom an engine can time."""

    enter: Callable[[StageContext, list[Variant]], list[Contest]]
    cells: Callable[[Variant], list[EngineCell]]
    what: str  # in words, where they are not timed


def _llama_cpp(context: StageContext, variants: list[Variant]) -> list[Contest]:
    original = variants[0]
    if original.file is None:
        return _in_types(context, variants)
    files: dict[Path, list[Variant]] = {}
    for variant in variants:
        if variant.file is not None:
            files.setdefault(variant.file, []).append(variant)
    came = read_gguf_header(original.file).main_type
    return [Contest(files, f"the {came} file that came in")] if len(files) > 1 else []


def _in_types(context: StageContext, variants: list[Variant]) -> list[Contest]:
    """The final model against the original in each type of GGUF that the job quantises to."""
    original = variants[0]
    files = {variant.file: variant for variant in variants if variant.file is not None}
    made = context.read(QUANTISE).variants if files else []
    final = [variant for variant in variants if variant.name in ("pruned", "recovered")][-1]
    contests = []
    for way in made:
        file = context.input(QUANTISE) / way.path
        if file in files:
            kind = str(way.options["type"])
            written = context.scratch / f"{_WRITTEN}{way.name}" / f"original-{kind}.gguf"
            if not written.is_file():
                export_gguf(original.checkpoint, written, kind=kind, progress=context.progress)
            contests.append(Contest({written: [original], file: [files[file], final]}, f"the original in {kind}"))
    return contests


def _vllm(context: StageContext, variants: list[Variant]) -> list[Contest]:
    """Two models at a time, since an engine takes a fixed part of the GPU."""
    made = context.read(PRUNE)
    if made.needs_loader and not made.decilm:
        return []
    original, others = variants[0], [variant for variant in variants[1:] if variant.timed]
    return [Contest({original.checkpoint.path: [original], other.checkpoint.path: [other]}) for other in others]


# By the engine's name in `ENGINES`.
FIELDS: Mapping[EngineName, Field] = {
    "llama_cpp": Field(_llama_cpp, lambda variant: variant.llama_cpp, "GGUF files"),
    "vllm": Field(_vllm, lambda variant: variant.vllm, "checkpoints"),
}


def refuse_engines(context: StageContext, options: LatencyBenchmark) -> str:
    """Say before anything is computed that an engine which the job names is not here, or would have nothing to time.

    Returns:
        The engines that will time something, in words.

    Raises:
        InvalidInput: at the field.
    """
    pointer = "/benchmark/latency/engines"
    for name in options.engines or ():
        if name in ENGINES and ENGINES[name].find() is None:
            raise InvalidInput.field(
                pointer,
                f"{ENGINES[name].title} is not on this worker.",
                value=list(options.engines or ()),
                expected=f"other engines, or a worker that has {ENGINES[name].installed_by}",
            )
        if name == "llama_cpp" and not _has_files(context):
            raise InvalidInput.field(
                pointer,
                "llama.cpp times GGUF files, of which this job makes none.",
                value=list(options.engines or ()),
                expected="a model that is a GGUF file, or a way to quantise of the kind `gguf`",
            )
    by = ["transformers"] if options.times_by("transformers") else []
    by += [
        engine.title
        for name, engine in ENGINES.items()
        if options.times_by(name) and engine.find() is not None and (name != "llama_cpp" or _has_files(context))
    ]
    return ", ".join(by)


def _has_files(context: StageContext) -> bool:
    ways = context.stage.spec.quantise
    return source_gguf(context) is not None or any(isinstance(way, GgufQuantisation) for way in ways)


def measure_engines(
    context: StageContext, variants: list[Variant], machine: Machine, positions: int | None
) -> list[str]:
    """Time the variants under every engine that the job asks for and this worker has; returns notes."""
    options = timed_as(context, positions)
    if options is None:
        return []
    notes: list[str] = []
    for name, field in FIELDS.items():
        engine = ENGINES[name]
        if not options.times_by(name):
            continue
        start = engine.find()
        if start is None:
            notes += _missing(name, field, variants, machine)
            continue
        cells = list(dict.fromkeys(grid(options)))
        if engine.one_sequence:
            alone = [Cell(1, cell.input_tokens, cell.output_tokens, cell.warmup, cell.runs) for cell in cells]
            if any(cell.batch_size != 1 for cell in cells):
                notes.append(f"{engine.title} was timed with one sequence at a time.")
            cells = list(dict.fromkeys(alone))
        with context.part(f"speed under {engine.title}"):
            try:
                contests = field.enter(context, variants)
            except UnsupportedModel as error:
                notes.append(f"{engine.title} timed nothing, since the original is not written for it. {error.detail}")
                continue
            memory = available_memory(machine.device)
            for contest in (held for whole in contests for held in fitting(whole, memory)):
                notes += _hold(context, contest, cells, start, machine, field=field, title=engine.title)
    for folder in context.scratch.glob(f"{_WRITTEN}*"):
        shutil.rmtree(folder)
    return notes


def fitting(contest: Contest, memory: int) -> list[Contest]:
    """The contest, or one of each variant with the original where all of its files together do not fit."""
    files = {model: model.stat().st_size for model in contest.models if model.is_file()}
    if sum(files.values()) <= MEMORY_SHARE * memory:
        return [contest]
    (first, original), *others = contest.models.items()
    return [Contest({first: original, model: variants}, contest.against) for model, variants in others]


def _missing(name: EngineName, field: Field, variants: list[Variant], machine: Machine) -> list[str]:
    """Of an engine that nobody has named: where it would have been of use."""
    of_use = any(variant.file for variant in variants) if name == "llama_cpp" else machine.device.type == "cuda"
    if not of_use:
        return []
    engine = ENGINES[name]
    return [
        f"The {field.what} were not timed under {engine.title}, which is not on this worker; it takes "
        f"{engine.installed_by}."
    ]


def _hold(
    context: StageContext,
    contest: Contest,
    cells: Sequence[Cell],
    start: Start,
    machine: Machine,
    *,
    field: Field,
    title: str,
) -> list[str]:
    """Time one contest in every cell; returns notes."""
    notes = []
    whose = {variants[0].name: (model, variants) for model, variants in contest.models.items()}
    vocabulary = int(next(iter(whose.values()))[1][0].checkpoint.config["vocab_size"])
    for cell in cells:
        loads = {name: _load(model, cell, machine, models=len(whose)) for name, (model, _) in whose.items()}
        try:
            found = time_under(
                start,
                loads,
                cell,
                against=contest.against,
                vocabulary=vocabulary,
                seed=context.stage.spec.seed,
                progress=context.progress,
            )
        except EngineFailed as error:
            where = f"batch {cell.batch_size}, {cell.input_tokens} + {cell.output_tokens} tokens"
            notes.append(f"At {where} nothing was timed under {title}: it {error}.")
            continue
        for name, figures in found.items():
            for variant in whose[name][1]:
                known = field.cells(variant)
                if not any(_place(figures) == _place(other) for other in known):  # the original's of another contest
                    known.append(figures)
    return notes


def _load(model: Path, cell: Cell, machine: Machine, *, models: int) -> Load:
    gpu = machine.device.type == "cuda"
    share = 1.0
    if gpu:
        free, total = torch.cuda.mem_get_info(machine.device)
        share = GPU_SHARE * free / total / models
    return Load(
        model=model,
        threads=machine.threads,
        gpu=gpu,
        dtype=str(machine.dtype).removeprefix("torch."),
        tokens=cell.input_tokens + cell.output_tokens,
        sequences=cell.batch_size,
        memory_share=share,
    )


def _place(cell: EngineCell) -> str:
    return f"{cell_name(cell)} {cell.against}"
