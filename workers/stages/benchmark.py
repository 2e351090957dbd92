"""The benchmark stage: the original, the pruned, the recovered and the quantised models, measured alike in one process.

Memory first, with each model alone in the process; then quality and speed, with all models loaded where they fit and
else the original beside one variant at a time, since both speed and fidelity are of pairs. A job that makes a draft
also measures each beside the model that it is to draft for.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from secateur.contract.measurements import Benchmarks
from secateur.contract.models.positions import positions_of
from secateur.contract.stage_kinds import PRUNE, QUANTISE, RECOVER
from workers.engine.benchmarks.compiling import refuse_uncompilable
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.loading import free_memory, load_model
from workers.engine.runtime import Machine, available_memory, environment
from workers.stages.benchmark_draft import measure_as_drafts
from workers.stages.benchmark_engines import measure_engines
from workers.stages.benchmark_notes import notes_on_files, notes_on_quantised, notes_on_texts
from workers.stages.benchmark_quality import measure_quality, texts
from workers.stages.benchmark_speed import measure_alone, measure_speed
from workers.stages.benchmark_variants import (
    ORIGINAL,
    Variant,
    file_of,
    opened_variant,
    quantised_variants,
    recovered_file,
    variants_between,
)
from workers.stages.context import StageContext
from workers.stages.fields import BENCHMARK, MODEL, told_in
from workers.stages.known_figures import known_figures
from workers.stages.measurable import SIZES_ALONE, measured_parts, refuse_unmeasurable
from workers.stages.original import open_original, prepare_machine, source_gguf, text_source

MEMORY_SHARE = 0.7  # of the free memory: models that need more together are loaded in pairs


FIELDS = {**MODEL, **BENCHMARK, "calibration": "/benchmark/perplexity"}


@told_in("/benchmark", FIELDS)
def run(context: StageContext) -> Benchmarks:
    """Measure the original and its variants as the spec asks; where it asks for nothing else, their sizes.

    Raises:
        InvalidInput: a text is too short or cannot be read.
        UnsupportedModel: the model is quantised for kernels that are not here.
        StageFailed: a model's figures are not finite.
    """
    began = time.monotonic()
    whose: dict[str, Any] = {"job_id": context.stage.job_id, "measured_at": datetime.now(UTC)}
    spec = context.stage.spec
    machine = prepare_machine(context)
    if spec.benchmark.latency is not None and spec.benchmark.latency.compile:
        refuse_uncompilable(str(machine.device))
    original = open_original(context)
    refuse_unmeasurable(spec.benchmark, original.checkpoint.config)
    pruned = context.read(PRUNE)
    variants = [
        opened_variant(
            ORIGINAL,
            original.checkpoint,
            pruned.parameters_before,
            len(pruned.kept) + len(pruned.dropped),
            file=source_gguf(context),
        ),
        opened_variant(
            "pruned",
            Checkpoint.open(context.input(PRUNE) / "checkpoint"),
            pruned.parameters_after,
            len(pruned.kept),
            file=file_of(context, PRUNE, pruned.gguf),
        ),
    ]
    if context.has(RECOVER):
        recovered = Checkpoint.open(context.input(RECOVER) / "checkpoint")
        file = file_of(context, RECOVER, context.read(RECOVER).gguf)
        variants.append(opened_variant("recovered", recovered, pruned.parameters_after, len(pruned.kept), file=file))
    final = variants[-1]
    variants += recovered_file(context, final) if context.has(RECOVER) else []
    variants += variants_between(context, final)
    variants += quantised_variants(context, final)
    config = original.checkpoint.config
    if not measured_parts(spec.benchmark):
        return Benchmarks(
            variants=[variant.measurement(variants[0]) for variant in variants],
            environment=environment(machine),
            seconds=time.monotonic() - began,
            notes=[SIZES_ALONE],
            **whose,
        )
    positions = positions_of(config)
    notes = measure_alone(context, [variant for variant in variants if variant.timed], machine, positions)
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
            variant.name: load_model(variant.checkpoint, device=machine.device, dtype=machine.dtype)
            for variant in group
        }
        notes += measure_quality(context, group, models, windows, source, known)
        notes += measure_speed(context, group, models, positions)
        del models
        free_memory()
    notes += measure_engines(context, variants, machine, positions)
    notes += measure_as_drafts(context, variants, machine)
    variants[0].reused = known.reused
    notes += known.notes()
    if context.has(RECOVER):
        trained = context.read(RECOVER).text
        notes += notes_on_texts(spec, trained)
    made = context.read(QUANTISE).variants if context.has(QUANTISE) else []
    notes += notes_on_files({variant.name: bool(variant.llama_cpp) for variant in variants if not variant.timed})
    notes += notes_on_quantised(made, timed=spec.benchmark.latency is not None)
    return Benchmarks(
        variants=[variant.measurement(variants[0]) for variant in variants],
        environment=environment(machine),
        seconds=time.monotonic() - began,
        notes=list(dict.fromkeys(notes)),
        **whose,
    )


def groups(variants: list[Variant], machine: Machine) -> list[list[Variant]]:
    """Variants to hold in memory together, the original first in each."""
    needed = sum(variant.parameters for variant in variants) * machine.dtype.itemsize
    if needed <= MEMORY_SHARE * available_memory(machine.device):
        return [variants]
    return [[variants[0], variant] for variant in variants[1:]]
