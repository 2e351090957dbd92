"""Quality of the variants that are in memory: perplexity, fidelity, tasks, what they generate; on the same tokens.

Where pruning has changed the vocabulary, each variant reads and writes by its own tokenizer (`benchmark_reading.py`),
and bits per byte stand in the place of figures of tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor
from transformers import PreTrainedModel

from secateur.contract.measurements import BitsPerByte
from secateur.contract.models.positions import positions_of
from secateur.contract.options.benchmark import PerplexityBenchmark
from secateur.contract.options.texts import BlendText
from workers.engine.benchmarks.bits_per_byte import PROTOCOL, bits_per_byte, encoded, passages, window_bits
from workers.engine.benchmarks.fidelity import divergence, fidelity
from workers.engine.benchmarks.perplexity import perplexity, protocol_of, window_losses
from workers.engine.benchmarks.task_definitions import find_folder
from workers.engine.benchmarks.task_scores import TaskRun
from workers.engine.benchmarks.tasks import run_tasks
from workers.engine.benchmarks.windows import Windows
from workers.engine.model.block_model import BlockModel
from workers.engine.text.calibration import token_batch
from workers.engine.text.text_source import TextSource
from workers.stages.benchmark_reading import OTHER_TOKENS, Reading
from workers.stages.benchmark_variants import ORIGINAL, Variant
from workers.stages.context import StageContext, part
from workers.stages.fields import of_text, told_at
from workers.stages.known_figures import KnownFigures, digest


def texts(context: StageContext, source: TextSource) -> Iterator[Windows]:
    """The windows of each text of the spec; where perplexity is left out, fidelity has generated text."""
    benchmark = context.stage.spec.benchmark
    fidelity = benchmark.fidelity.enabled and not context.stage.spec.changes_vocabulary
    if benchmark.perplexity is None and not fidelity:
        return
    options = benchmark.perplexity or PerplexityBenchmark()
    for index in range(len(options.texts)):
        yield text_windows(context, source, options, index)


def text_windows(context: StageContext, source: TextSource, options: PerplexityBenchmark, index: int) -> Windows:
    """The windows of the text of this number.

    Raises:
        InvalidInput: the text is too short or cannot be read.
    """
    text = options.texts[index]
    with told_at(of_text("/benchmark/perplexity", f"/benchmark/perplexity/texts/{index}")):
        ids, info = token_batch(
            source,
            text,
            purpose="measuring",
            samples=options.windows,
            tokens=options.tokens,
            bos=options.bos,
            stride=options.stride,
            exact=False,
            index=index,
            progress=context.progress,
        )
        whole = [part.text for part in text.parts] if isinstance(text, BlendText) else [text]
        wheres = {source.beginning(part, options.bos).where for part in whole}
    if len(ids) < options.windows:
        context.log(f"{info.description}: {len(ids)} windows of the {options.windows} asked for.")
    overlap = 0 if options.stride is None else options.tokens - options.stride
    where = wheres.pop() if len(wheres) == 1 else "some"
    if overlap == 1 and where == "each":  # what two windows share is the token before each
        overlap = 0
    return Windows(ids, info, protocol_of(tokens=options.tokens, bos=where, overlap=overlap), overlap)


@part("quality")
def measure_quality(
    context: StageContext,
    group: list[Variant],
    models: dict[str, PreTrainedModel],
    windows: list[Windows],
    source: TextSource,
    known: KnownFigures,
) -> list[str]:
    """Perplexity, fidelity, tasks, samples and answers of what has none yet; returns notes.

    Of the original, what an earlier job measured is taken from `known`.
    """
    benchmark, changed = context.stage.spec.benchmark, context.stage.spec.changes_vocabulary
    notes: list[str] = []
    original = BlockModel.from_model(models[ORIGINAL])
    reading = Reading.of(context, source, notes)
    if changed:
        notes.append(OTHER_TOKENS)
    for variant in group:
        if variant.measured:  # the original, in a later pair
            continue
        variant.measured = True
        own = reading.of_variant(variant) if changed and variant.name != ORIGINAL else reading
        figures = known if variant.name == ORIGINAL else replace(known, folder=None, reused=[])
        model = BlockModel.from_model(models[variant.name])
        for window in windows:
            if changed:
                variant.bits_per_byte.append(_bits(context, figures, model, window, variant, group[0], source, own))
                continue
            if benchmark.perplexity is not None:
                losses = _losses(context, figures, model, window)
                theirs = None if variant.name == ORIGINAL else group[0].losses[window.text.sha256]
                variant.losses[window.text.sha256] = losses
                variant.perplexity.append(perplexity(losses, window, original=theirs))
            if benchmark.fidelity.enabled and variant.name != ORIGINAL:
                found = divergence(original, model, window, progress=context.progress)
                variant.fidelity.append(fidelity(found, window))
        if benchmark.tasks is not None:
            variant.tasks = _tasks(context, figures.recall, models, variant, own.source, notes)
            before = group[0].tasks
            if known.reused and [run.items.keys() for run in before] != [run.items.keys() for run in variant.tasks]:
                context.log("The tasks have other items than those that an earlier job measured: measuring them anew.")
                group[0].tasks = _tasks(context, known.measure_anew, models, group[0], source, notes)
        if own.samples is not None:
            variant.samples = own.samples(figures, models[variant.name])
        if own.checks is not None:
            variant.answers = own.checks.answers(figures, models[variant.name])
            before_it = None if variant is group[0] else group[0].answers
            variant.scores = own.checks.scores(variant.answers, before_it)
    return notes


def _losses(context: StageContext, figures: KnownFigures, model: BlockModel, window: Windows) -> Tensor:
    """The mean loss of each window: kept rather than its mean, since a variant is compared window by window."""
    settings = [window.text.sha256, window.protocol, window.overlap]

    def measure() -> list[float]:
        losses = window_losses(model, window, progress=context.progress)
        perplexity(losses, window)  # what is no perplexity is refused before it is kept
        return losses.tolist()

    found = figures.recall("perplexity", settings, TypeAdapter(list[float]), measure)
    return torch.tensor(found, dtype=torch.float64)


def _bits(
    context: StageContext,
    figures: KnownFigures,
    model: BlockModel,
    window: Windows,
    variant: Variant,
    original: Variant,
    source: TextSource,
    own: Reading,
) -> BitsPerByte:
    """What a variant pays for the window's text in its own tokens, beside what the original does in its."""
    with told_at(of_text("/benchmark/perplexity")):
        positions = positions_of(source.config.to_dict())
        text = passages(window, source.tokenizer, bos=source.bos, positions=positions)
        tokens = encoded(text, own.source.tokenizer, bos=own.source.bos)

        def measure() -> list[float]:
            bits = window_bits(model, tokens, progress=context.progress).tolist()
            bits_per_byte(bits, tokens.tokens, text)  # what is no figure is refused before it is kept
            return bits

        settings = [window.text.sha256, window.protocol, window.overlap, PROTOCOL]
        bits = figures.recall("bits per byte", settings, TypeAdapter(list[float]), measure)
    variant.bits[window.text.sha256] = bits
    theirs = None if variant.name == ORIGINAL else original.bits[window.text.sha256]
    return bits_per_byte(bits, tokens.tokens, text, original=theirs)


def _tasks(
    context: StageContext,
    recall: Any,
    models: dict[str, PreTrainedModel],
    variant: Variant,
    source: TextSource,
    notes: list[str],
) -> list[TaskRun]:
    options = context.stage.spec.benchmark.tasks
    assert options is not None, "the caller has looked"
    roots = context.stage.runtime.data_roots

    def measure() -> list[TaskRun]:
        context.log(f"Running {len(options.tasks)} tasks on the {variant.name} model.")
        found, said = run_tasks(models[variant.name], source.tokenizer, options, roots=roots, progress=context.progress)
        notes.extend(said)
        return found

    files = sorted(find_folder(options.folder, roots).rglob("*")) if options.folder is not None else []
    found: list[TaskRun] = recall(
        "tasks", [options.model_dump(mode="json"), digest(files)], TypeAdapter(list[TaskRun]), measure
    )
    return found
