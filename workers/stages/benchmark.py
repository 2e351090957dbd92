"""The benchmark stage: the original, the pruned, the recovered and the quantised models, measured alike in one process.

Memory first, with each model alone in the process; then quality and speed, with all models loaded where they fit and
else the original beside one variant at a time, since both speed and fidelity are of pairs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil
import torch
from torch import Tensor
from transformers import PreTrainedModel

from app.domain.jobs import StageName
from app.domain.options import PerplexityBenchmark, SelfText
from app.domain.results import (
    Benchmarks,
    Fidelity,
    LatencyCell,
    Measurement,
    Memory,
    Perplexity,
    Pruned,
    Quantised,
    Recovered,
    Sample,
    TextInfo,
)
from app.domain.spec import CompressionSpec
from app.errors import InvalidInput
from workers.engine.benchmarks.fidelity import divergence, fidelity
from workers.engine.benchmarks.latency import Cell, cells_of, time_cell
from workers.engine.benchmarks.memory import measure_memory
from workers.engine.benchmarks.perplexity import perplexity, protocol_of, window_losses
from workers.engine.benchmarks.samples import write_samples
from workers.engine.benchmarks.tasks import TaskRun, run_tasks, scores_of
from workers.engine.benchmarks.windows import Windows, overlapping, with_first_token
from workers.engine.blocks import BlockModel
from workers.engine.calibration import AnyText, TextSource, describe_batch, starts_with_bos, token_batch
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.gguf_import import import_gguf
from workers.engine.checkpoints.new_folder import new_folder
from workers.engine.generation import kv_bytes_per_token
from workers.engine.models import free_memory, load_model
from workers.engine.runtime import Machine, environment
from workers.stages.benchmark_notes import notes_on_quantised, notes_on_texts
from workers.stages.context import StageContext
from workers.stages.original import open_original, prepare_machine, text_source

MEMORY_SHARE = 0.7  # of the free memory: models that need more together are loaded in pairs
ORIGINAL = "original"


@dataclass
class Variant:
    """One model, and what has been measured of it so far."""

    name: str
    path: Path
    parameters: int
    blocks: int
    bytes_on_disk: int
    timed: bool = True  # whether speed and memory are measured too
    memory: Memory | None = None
    perplexity: list[Perplexity] = field(default_factory=list)
    fidelity: list[Fidelity] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    latency: list[LatencyCell] = field(default_factory=list)
    tasks: list[TaskRun] = field(default_factory=list)
    measured: bool = False  # whether its quality has been

    def measurement(self, original: Variant) -> Measurement:
        return Measurement(
            variant=self.name,
            parameters=self.parameters,
            blocks=self.blocks,
            bytes_on_disk=self.bytes_on_disk,
            latency=self.latency,
            memory=self.memory,
            perplexity=self.perplexity,
            fidelity=self.fidelity,
            samples=self.samples,
            tasks=scores_of(self.tasks, None if self is original else original.tasks),
        )


def run(context: StageContext) -> Benchmarks:
    """Measure the original and its variants as the spec asks.

    Raises:
        InvalidInput: a text is too short or cannot be read.
        StageFailed: a model's figures are not finite.
    """
    began = time.monotonic()
    spec = context.stage.spec
    machine = prepare_machine(context)
    original = open_original(context)
    pruned = context.read(StageName.PRUNE, Pruned)
    variants = [
        _variant(ORIGINAL, original.path, pruned.parameters_before, len(pruned.kept) + len(pruned.dropped)),
        _variant("pruned", context.input(StageName.PRUNE) / "checkpoint", pruned.parameters_after, len(pruned.kept)),
    ]
    if context.has(StageName.RECOVER):
        path = context.input(StageName.RECOVER) / "checkpoint"
        variants.append(_variant("recovered", path, pruned.parameters_after, len(pruned.kept)))
    variants += quantised_variants(context, variants[-1])
    notes = measure_alone(context, [variant for variant in variants if variant.timed], machine)
    source = text_source(context, original, machine)
    windows = list(texts(context, source))
    for group in groups(variants, machine):
        models = {
            variant.name: load_model(variant.path, device=machine.device, dtype=machine.dtype) for variant in group
        }
        notes += measure_quality(context, group, models, windows, source)
        measure_speed(context, group, models)
        del models
        free_memory()
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


def _variant(name: str, path: Path, parameters: int, blocks: int) -> Variant:
    return Variant(name, path, parameters, blocks, Checkpoint.open(path).total_bytes)


def quantised_variants(context: StageContext, final: Variant) -> list[Variant]:
    """The final model as the quantise stage left it, once for each way.

    A GGUF file is measured by its values: unpacked into a checkpoint, as transformers does it. How fast llama.cpp is
    with it cannot be told that way, so neither speed nor memory is.
    """
    if not context.has(StageName.QUANTISE):
        return []
    folder = context.input(StageName.QUANTISE)
    found = []
    for made in context.read(StageName.QUANTISE, Quantised).variants:
        path = folder / made.path
        unpacked = path.is_file()
        if unpacked:
            path = context.scratch / made.name
            if not path.is_dir():
                with new_folder(path) as new:
                    import_gguf(folder / made.path, new, progress=context.progress)
        found.append(
            Variant(f"{final.name}-{made.name}", path, final.parameters, final.blocks, made.bytes, timed=not unpacked)
        )
    return found


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
    return notes


def texts(context: StageContext, source: TextSource) -> Iterator[Windows]:
    """The windows of each text of the spec; where perplexity is left out, fidelity has generated text."""
    benchmark = context.stage.spec.benchmark
    if benchmark.perplexity is None and not benchmark.fidelity.enabled:
        return
    options = benchmark.perplexity or PerplexityBenchmark()
    stride = options.stride or options.tokens
    apart = math.ceil((options.tokens + (options.windows - 1) * stride) / options.tokens)  # windows without overlap
    for index, text in enumerate(options.texts):
        ids, info = token_batch(
            source,
            text,
            purpose="measuring",
            samples=apart,
            tokens=options.tokens,
            exact=False,
            index=index,
            pointer="/benchmark/perplexity",
            text_pointer=f"/benchmark/perplexity/texts/{index}",
            progress=context.progress,
        )
        if stride < options.tokens:
            ids = overlapping(ids, stride=stride)[: options.windows]
        if len(ids) < options.windows:
            context.log(f"{info.description}: {len(ids)} windows of the {options.windows} asked for.")
        yield _windows(ids, info, text, options, source)


def _windows(ids: Tensor, info: TextInfo, text: AnyText, options: PerplexityBenchmark, source: TextSource) -> Windows:
    """The windows with their protocol, and a beginning-of-text token before each where that was asked.

    Raises:
        InvalidInput: the model has no such token.
    """
    overlap = options.tokens - options.stride if options.stride else 0
    if isinstance(text, SelfText):  # sampled from that token on, where the model has one
        bos: Literal["each", "first", "none"] = "none" if source.bos is None else "each"
    else:
        bos = "first" if starts_with_bos(source.tokenizer) else "none"
    if options.bos == "each" and bos != "each":
        if source.bos is None:
            raise InvalidInput.field(
                "/benchmark/perplexity/bos",
                "The model has no beginning-of-text token.",
                value=options.bos,
                expected='"first"',
            )
        if bos == "first":  # the text's own goes, or the first window would have two
            ids = ids[1:] if len(ids) > 1 else ids
        ids = with_first_token(ids, source.bos)
        overlap += 1 if overlap else 0
        bos = "each"
    protocol = protocol_of(tokens=ids.shape[1], bos=bos, overlap=overlap)
    described = describe_batch(ids, description=info.description, source=info.source, identity=info.identity)
    return Windows(ids, described, protocol, overlap)


def groups(variants: list[Variant], machine: Machine) -> list[list[Variant]]:
    """Variants to hold in memory together, the original first in each."""
    needed = sum(variant.parameters for variant in variants) * machine.dtype.itemsize
    if machine.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(machine.device)
    else:
        free = psutil.virtual_memory().available
    if needed <= MEMORY_SHARE * free:
        return [variants]
    return [[variants[0], variant] for variant in variants[1:]]


def measure_quality(
    context: StageContext,
    group: list[Variant],
    models: dict[str, PreTrainedModel],
    windows: list[Windows],
    source: TextSource,
) -> list[str]:
    """Perplexity, fidelity, tasks and samples of what has none yet; returns notes."""
    benchmark = context.stage.spec.benchmark
    notes = []
    original = BlockModel.from_model(models[ORIGINAL])
    for variant in group:
        if variant.measured:  # the original, in a later pair
            continue
        variant.measured = True
        model = BlockModel.from_model(models[variant.name])
        for window in windows:
            if benchmark.perplexity is not None:
                losses = window_losses(model, window, progress=context.progress)
                variant.perplexity.append(perplexity(losses, window))
            if benchmark.fidelity.enabled and variant.name != ORIGINAL:
                found = divergence(original, model, window, progress=context.progress)
                variant.fidelity.append(fidelity(found, window))
        if benchmark.tasks is not None:
            context.log(f"Running {len(benchmark.tasks.tasks)} tasks on the {variant.name} model.")
            variant.tasks = run_tasks(
                models[variant.name], source.tokenizer, benchmark.tasks, roots=context.stage.runtime.data_roots
            )
        if benchmark.samples is not None:
            try:
                variant.samples = write_samples(
                    models[variant.name],
                    source.tokenizer,
                    benchmark.samples.prompts,
                    max_new_tokens=benchmark.samples.max_new_tokens,
                    temperature=benchmark.samples.temperature,
                    seed=context.stage.spec.seed,
                    progress=context.progress,
                )
            except InvalidInput as error:
                notes.append(f"No samples were written. {error.detail}")
    return notes


def measure_speed(context: StageContext, group: list[Variant], models: dict[str, PreTrainedModel]) -> None:
    """Latency of the group's models in turn, cell by cell; the original's cells are those of the first group."""
    if len(group) == 2 and not group[1].timed:
        return
    timed = {variant.name: models[variant.name] for variant in group if variant.timed}
    for cell in grid(context.stage.spec):
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
        Cell(batch_size, options.input_tokens, output_tokens, options.warmup, options.runs)
        for batch_size in dict.fromkeys(options.batch_sizes)
        for output_tokens in dict.fromkeys(options.output_tokens)
    ]


def _same_cell(left: LatencyCell, right: LatencyCell) -> bool:
    return (left.batch_size, left.output_tokens) == (right.batch_size, right.output_tokens)
