"""Speed and memory of the variants: memory with each model alone in the process, speed with all in turn."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from transformers import PreTrainedModel

from secateur.contract.measurements import LatencyCell
from secateur.contract.models.positions import fitting_latency
from secateur.contract.options.benchmark import LatencyBenchmark
from workers.engine.benchmarks.compiling import Mode, NotCompiled
from workers.engine.benchmarks.largest_batch import largest_batch
from workers.engine.benchmarks.latency import Cell, cells_of, time_cell
from workers.engine.benchmarks.memory import measure_memory
from workers.engine.benchmarks.placement import place_weights
from workers.engine.blame import blamed_on
from workers.engine.model.generation import kv_bytes_per_token
from workers.engine.model.loading import free_memory, load_model
from workers.engine.progress import Progress
from workers.engine.runtime import Machine
from workers.stages.benchmark_variants import Variant
from workers.stages.context import StageContext, part


@part("memory")
def measure_alone(context: StageContext, variants: list[Variant], machine: Machine, positions: int | None) -> list[str]:
    """Memory of each variant with no other model loaded; returns notes."""
    latency = timed_as(context, positions)
    if latency is None or not latency.times_by("transformers"):
        return []
    notes = []
    if latency != context.stage.spec.benchmark.latency:
        notes.append(
            f"The model holds {positions:,} tokens, so {latency.output_tokens[0]} are generated where speed and memory "
            "are measured, and not the usual 128."
        )
    for number, variant in enumerate(variants, start=1):
        model = load_model(variant.checkpoint, device=machine.device, dtype=machine.dtype)
        with _blamed(variant.name):
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


@part("speed")
def measure_speed(
    context: StageContext, group: list[Variant], models: dict[str, PreTrainedModel], positions: int | None
) -> list[str]:
    """Latency of the group's models in turn, cell by cell; returns notes.

    The original's cells are those of the first group. Where a model cannot be compiled, all are timed as they are.
    """
    latency = timed_as(context, positions)
    cells = grid(latency if latency is not None and latency.times_by("transformers") else None)
    if not cells or (len(group) == 2 and not group[1].timed):
        return []
    notes = []
    timed = {variant.name: models[variant.name] for variant in group if variant.timed}
    for model in timed.values():
        place_weights(model)
    for number, cell in enumerate(cells):
        rounds = _rounds(cells, number, context.progress)
        with _blamed(", ".join(timed)):
            try:
                timings = time_cell(timed, cell, seed=context.stage.spec.seed, progress=rounds)
            except NotCompiled as error:
                where = f"batch {cell.batch_size}, {cell.input_tokens} + {cell.output_tokens} tokens"
                notes.append(f"At {where} all models were timed without torch.compile. What stood against it, {error}.")
                cell = replace(cell, mode=replace(cell.mode, compiled=False))
                timings = time_cell(timed, cell, seed=context.stage.spec.seed, progress=rounds)
        for name, figures in cells_of(timings, cell).items():
            variant = next(variant for variant in group if variant.name == name)
            if not any(_same_cell(figures, known) for known in variant.latency):
                variant.latency.append(figures)
    return notes


def _rounds(cells: Sequence[Cell], number: int, progress: Progress) -> Progress:
    """The progress of one cell as that of all: what comes before its first round, such as compiling, is not the end."""
    lengths = [cell.warmup + cell.runs for cell in cells]
    before, total = sum(lengths[:number]), sum(lengths)
    progress(before, total, "rounds")
    return lambda done, _, unit: progress(before + done, total, unit)


def timed_as(context: StageContext, positions: int | None) -> LatencyBenchmark | None:
    """The options of the latency, as far as the model's positions go."""
    latency = context.stage.spec.benchmark.latency
    return None if latency is None else fitting_latency(latency, positions)


def grid(options: LatencyBenchmark | None) -> list[Cell]:
    """The cells to time, batch sizes first."""
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


def _blamed(names: str) -> AbstractContextManager[None]:
    return blamed_on(
        "/benchmark/latency",
        f"Speed and memory cannot be measured ({names})",
        expected="lengths, batch sizes and a cache that the model can generate with, or null",
    )
