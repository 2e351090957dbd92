"""The benchmark stage: the original, the pruned, the recovered and the quantised models, measured alike in one process.

Memory first, with each model alone in the process; then quality and speed, with all models loaded where they fit and
else the original beside one variant at a time, since both speed and fidelity are of pairs.
"""

from __future__ import annotations

import time

from transformers import PreTrainedModel

from app.domain.jobs import StageName
from app.domain.results import (
    Benchmarks,
    LatencyCell,
    Pruned,
    Quantised,
    Recovered,
)
from app.domain.spec import CompressionSpec
from workers.engine.benchmarks.compiling import Mode, refuse_uncompilable
from workers.engine.benchmarks.largest_batch import largest_batch
from workers.engine.benchmarks.latency import Cell, cells_of, time_cell
from workers.engine.benchmarks.memory import measure_memory
from workers.engine.benchmarks.placement import place_weights
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.kernels import why_not_computable
from workers.engine.generation import kv_bytes_per_token
from workers.engine.models import free_memory, load_model
from workers.engine.runtime import Machine, available_memory, environment
from workers.stages.benchmark_notes import notes_on_quantised, notes_on_texts
from workers.stages.benchmark_quality import measure_quality, texts
from workers.stages.benchmark_variants import ORIGINAL, Variant, open_variant, quantised_variants
from workers.stages.context import StageContext
from workers.stages.original import open_original, prepare_machine, text_source
from workers.stages.reuse import known_figures

MEMORY_SHARE = 0.7  # of the free memory: models that need more together are loaded in pairs


def run(context: StageContext) -> Benchmarks:
    """Measure the original and its variants as the spec asks; where this machine cannot run them, their sizes alone.

    Raises:
        InvalidInput: a text is too short or cannot be read.
        StageFailed: a model's figures are not finite.
    """
    began = time.monotonic()
    spec = context.stage.spec
    machine = prepare_machine(context)
    if spec.benchmark.latency is not None and spec.benchmark.latency.compile:
        refuse_uncompilable(str(machine.device))
    original = open_original(context)
    pruned = context.read(StageName.PRUNE, Pruned)
    variants = [
        open_variant(ORIGINAL, original.path, pruned.parameters_before, len(pruned.kept) + len(pruned.dropped)),
        open_variant(
            "pruned", context.input(StageName.PRUNE) / "checkpoint", pruned.parameters_after, len(pruned.kept)
        ),
    ]
    if context.has(StageName.RECOVER):
        path = context.input(StageName.RECOVER) / "checkpoint"
        variants.append(open_variant("recovered", path, pruned.parameters_after, len(pruned.kept)))
    variants += quantised_variants(context, variants[-1])
    reason = why_not_computable(Checkpoint.open(original.path).config)
    if reason is not None:
        note = f"{reason}. Only sizes were taken, from the files; speed, memory and quality were not measured."
        context.log(note, "warning")
        return Benchmarks(
            variants=[variant.measurement(variants[0]) for variant in variants],
            environment=environment(machine),
            seconds=time.monotonic() - began,
            notes=[note],
        )
    notes = measure_alone(context, [variant for variant in variants if variant.timed], machine)
    source = text_source(context, original, machine)
    windows = list(texts(context, source))
    known = known_figures(
        cache=context.stage.runtime.cache,
        enabled=spec.benchmark.reuse_original,
        job_id=context.stage.job_id,
        fingerprint=original.info.fingerprint,
        checkpoint=original.path,
        machine=environment(machine),
    )
    for group in groups(variants, machine):
        models = {
            variant.name: load_model(variant.path, device=machine.device, dtype=machine.dtype) for variant in group
        }
        notes += measure_quality(context, group, models, windows, source, known)
        measure_speed(context, group, models)
        del models
        free_memory()
    variants[0].reused = known.reused
    notes += known.notes()
    if context.has(StageName.RECOVER):
        trained = context.read(StageName.RECOVER, Recovered).text
        notes += notes_on_texts(spec, trained)
    if context.has(StageName.QUANTISE):
        notes += notes_on_quantised(
            context.read(StageName.QUANTISE, Quantised), timed=spec.benchmark.latency is not None
        )
    return Benchmarks(
        variants=[variant.measurement(variants[0]) for variant in variants],
        environment=environment(machine),
        seconds=time.monotonic() - began,
        notes=list(dict.fromkeys(notes)),
    )


def measure_alone(context: StageContext, variants: list[Variant], machine: Machine) -> list[str]:
    """Memory of each variant with no other model loaded; returns notes."""
    latency = context.stage.spec.benchmark.latency
    if latency is None:
        return []
    notes = []
    for number, variant in enumerate(variants, start=1):
        model = load_model(variant.path, device=machine.device, dtype=machine.dtype)
        variant.memory = measure_memory(
            model,
            batch_size=latency.batch_sizes[0],
            input_tokens=latency.input_tokens,
            output_tokens=latency.output_tokens[0],
            seed=machine.seed,
        )
        if latency.largest_batch and machine.device.type == "cuda":
            fitting = largest_batch(
                model, input_tokens=latency.input_tokens, output_tokens=latency.output_tokens[0], seed=machine.seed
            )
            variant.memory = variant.memory.model_copy(update={"largest_batch": fitting})
        computed = kv_bytes_per_token(model)
        if variant.memory.kv_bytes_per_token != computed:
            notes.append(
                f"A token of context costs {variant.memory.kv_bytes_per_token:,} bytes on average as measured on the "
                f"{variant.name} model; heads and sizes in its config give {computed:,} for full attention in every "
                "block."
            )
        del model
        free_memory()
        context.progress(number, len(variants), "models")
    if latency.largest_batch and machine.device.type != "cuda":
        notes.append("The largest batch that fits is measured on a GPU alone; this job ran on a CPU.")
    return notes


def groups(variants: list[Variant], machine: Machine) -> list[list[Variant]]:
    """Variants to hold in memory together, the original first in each."""
    needed = sum(variant.parameters for variant in variants) * machine.dtype.itemsize
    if needed <= MEMORY_SHARE * available_memory(machine.device):
        return [variants]
    return [[variants[0], variant] for variant in variants[1:]]


def measure_speed(context: StageContext, group: list[Variant], models: dict[str, PreTrainedModel]) -> None:
    """Latency of the group's models in turn, cell by cell; the original's cells are those of the first group."""
    cells = grid(context.stage.spec)
    if not cells or (len(group) == 2 and not group[1].timed):
        return
    timed = {variant.name: models[variant.name] for variant in group if variant.timed}
    for model in timed.values():
        place_weights(model)
    for cell in cells:
        timings = time_cell(timed, cell, seed=context.stage.spec.seed, progress=context.progress)
        for name, figures in cells_of(timings, cell).items():
            variant = next(variant for variant in group if variant.name == name)
            if not any(_same_cell(figures, known) for known in variant.latency):
                variant.latency.append(figures)


def grid(spec: CompressionSpec) -> list[Cell]:
    """The cells to time, batch sizes first."""
    options = spec.benchmark.latency
    if options is None:
        return []
    return [
        Cell(
            batch_size,
            options.input_tokens,
            output_tokens,
            options.warmup,
            options.runs,
            Mode(compiled=options.compile, static_cache=options.static_cache),
        )
        for batch_size in dict.fromkeys(options.batch_sizes)
        for output_tokens in dict.fromkeys(options.output_tokens)
    ]


def _same_cell(left: LatencyCell, right: LatencyCell) -> bool:
    return (left.batch_size, left.output_tokens) == (right.batch_size, right.output_tokens)
