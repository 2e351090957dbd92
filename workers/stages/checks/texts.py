"""Checks of the texts that the job is given: each can be read, is long enough, and is in the format that was named.

They are read as their stages will read them, and what comes of it is kept in the machine's cache, so that nothing is
tokenised twice. Text that the model writes itself is left to the stage that needs it, and how much that is, is told:
on a CPU it is a large part of a job's time, as the steps of a training are.
"""

from __future__ import annotations

from secateur.contract.numbers import size
from secateur.contract.options.benchmark import PerplexityBenchmark
from secateur.contract.options.pruning import DepthPruning, SubBlockPruning
from secateur.contract.options.recovery import DistillRecovery, HealingRecovery
from secateur.contract.options.texts import AnswersText, BlendText, Calibration, SelfText, is_written
from secateur.contract.options.training import TrainedRecovery
from secateur.contract.stage_kinds import CHOOSE, SCORE
from secateur.contract.texts import texts_of
from secateur.contract.training_steps import held_out, total_steps
from workers.engine.checkpoints.computable import why_not_computable
from workers.engine.recovery.healing import given_tokens
from workers.engine.recovery.instruction_data import training_data
from workers.engine.recovery.job import RecoveryJob, settings_of
from workers.engine.recovery.packed_predictions import PackedForm
from workers.engine.recovery.teacher import prediction_bytes, refuse_without_room
from workers.engine.recovery.training_text import samples_asked
from workers.engine.text.calibration import check_positions, parts_of, samples_of
from workers.engine.text.prompts_to_answer import prompts_to_answer
from workers.engine.text.text_source import AnyText, TextSource, Wanted, within_text
from workers.stages.benchmark_quality import text_windows
from workers.stages.checks.subject import Subject
from workers.stages.choose import text_fields
from workers.stages.fields import of_text, told_at
from workers.stages.original import calibration_tokens


def calibration(subject: Subject) -> str | None:
    """Every `calibration` that a stage of the job uses. Raises InvalidInput or Unavailable."""
    seen = []
    spec = subject.spec
    scored = SCORE.asked(spec)
    pruning = spec.pruning
    named = isinstance(pruning, DepthPruning | SubBlockPruning) and pruning.drop is not None  # then nothing is judged
    for pointer, wanted in texts_of(spec, Calibration):
        if (pointer.startswith("/scoring") and not scored) or (pointer.startswith("/pruning") and named):
            continue
        if is_written(wanted.text):
            asked = Wanted("calibration", wanted.samples, wanted.tokens, wanted.bos)
            with told_at(of_text(pointer)):
                seen.append(_written(subject, wanted.text, asked))
            continue
        ids, info = calibration_tokens(subject.context, subject.original, subject.machine, wanted, pointer=pointer)
        seen.append(f"{len(ids)} × {wanted.tokens} tokens of {info.description}")
    if CHOOSE.asked(spec) and is_written((text := spec.scoring.healing_text).text):
        asked = Wanted("calibration", text.samples, text.tokens, text.bos)
        with told_at(text_fields(spec.scoring)):
            seen.append(f"{_written(subject, text.text, asked)} to heal sets on")
    return "; ".join(seen) or None


def training(subject: Subject) -> str | None:
    """The text of the recovery. Raises InvalidInput or Unavailable."""
    options = subject.spec.recovery
    if not isinstance(options, TrainedRecovery | HealingRecovery):
        return None
    for source in (subject.texts, subject.training_texts):
        check_positions(source.config, options.tokens)
    if is_written(options.text) and (isinstance(options, HealingRecovery) or options.format == "text"):
        samples = options.samples if isinstance(options, HealingRecovery) else samples_asked(options)
        asked = Wanted("training", samples, options.tokens, options.bos)
        seen = _written(subject, options.text, asked, subject.training_texts)
        return seen if isinstance(options, HealingRecovery) else seen + _bounded(subject, options, samples or 1)
    job = _job(subject)
    if isinstance(options, HealingRecovery):
        ids, info = given_tokens(job, options)
        return f"{len(ids)} × {ids.shape[1]} tokens of {info.description}"
    data, info = training_data(job, options)
    return f"{len(data)} × {options.tokens} tokens of {info.description}" + _bounded(subject, options, len(data))


def _bounded(subject: Subject, options: TrainedRecovery, samples: int) -> str:
    """What a training on so many samples takes: its warm-up ends, and the disk holds what distillation stores.

    Raises:
        InvalidInput: one of them does not hold.
    """
    settings_of(options, samples=samples)
    steps = total_steps(samples - held_out(samples, options.validation), options.tokens, options)
    seen = f"; {steps:,} steps of {options.batch_size * options.tokens:,} tokens"
    if not isinstance(options, DistillRecovery):
        return seen
    form = PackedForm.of(options.top_k, _job(subject).vocabulary)
    refuse_without_room(subject.context.scratch, samples, options.tokens, form)
    needed = prediction_bytes(samples, options.tokens, form)
    whose = "original" if subject.target is None else "target"
    return f"{seen}; the {whose}'s predictions on {samples:,} samples take {size(needed)} of disk"


def _written(subject: Subject, text: AnyText, wanted: Wanted, source: TextSource | None = None) -> str:
    """How much text has to be written, in words; of a blend what else it is made of too. The original writes if no
    `source` is given.

    Raises:
        InvalidInput: the model does not hold so much, or the prompts that it is to answer cannot be used.
        Unavailable: the hub does not answer.
    """
    source = source or subject.texts
    check_positions(source.config, wanted.tokens)
    if isinstance(text, BlendText):
        seen = []
        for number, part, asked in parts_of(text, wanted):
            with within_text(f"parts/{number}/text"):
                seen.append(_written(subject, part.text, asked, source))
        return "; ".join(seen)
    if not isinstance(text, SelfText | AnswersText):
        ids, info, _ = samples_of(source, text, wanted, subject.context.progress)
        return f"{len(ids)} × {wanted.tokens} tokens of {info.description}"
    source.beginning(text, wanted.bos)
    samples = wanted.samples or 1
    writer = "model" if source is subject.texts else "target"
    told = f"{samples:,} × {wanted.tokens:,} tokens that the {writer} writes"
    if not isinstance(text, AnswersText):
        return told
    prompts = prompts_to_answer(source, text, wanted, samples)
    return f"{told}, in answer to {len(prompts.ids):,} {prompts.description}"


@told_at(of_text("/benchmark/perplexity"))
def measuring(subject: Subject) -> str | None:
    """The texts of the benchmark. Raises InvalidInput or Unavailable."""
    seen = []
    benchmark = subject.spec.benchmark
    if benchmark.perplexity is None and not benchmark.fidelity.enabled:
        return None
    if why_not_computable(subject.config) is not None:
        return None  # told of the kernels
    options = benchmark.perplexity or PerplexityBenchmark()
    check_positions(subject.texts.config, options.tokens)
    for index, text in enumerate(options.texts):
        if is_written(text):
            asked = Wanted("measuring", options.windows, options.tokens, options.bos)
            with told_at(of_text("/benchmark/perplexity", f"/benchmark/perplexity/texts/{index}")):
                seen.append(_written(subject, text, asked))
            continue
        windows = text_windows(subject.context, subject.texts, options, index)
        seen.append(f"{len(windows.ids)} windows of {windows.text.description}")
    return "; ".join(seen) or None


def _job(subject: Subject) -> RecoveryJob:
    """A recovery of which the text alone is looked at."""
    context = subject.context
    return RecoveryJob(
        pruned=subject.original.checkpoint,
        original=subject.original.checkpoint,
        kept=tuple(range(subject.original.info.blocks)),
        out=context.out,
        scratch=context.scratch,
        options=subject.spec.recovery,
        machine=subject.machine,
        texts=subject.training_texts,
        progress=context.progress,
        log=context.log,
    )
