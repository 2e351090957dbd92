"""How much of its text a training takes, and no more than that: by steps, by tokens, by samples and by minutes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeVar

from secateur.contract.options.method import Options
from secateur.contract.options.texts import AnswersText, BlendText, HubText, is_written
from secateur.contract.options.training import TrainedRecovery
from secateur.contract.training_steps import GENERATED_SAMPLES
from workers.engine.progress import Progress
from workers.engine.recovery.clock import TimeUp
from workers.engine.recovery.job import RecoveryJob
from workers.engine.text.calibration import Samples, samples_of
from workers.engine.text.sources import hub_revision
from workers.engine.text.text_ids import TOKEN_BYTES
from workers.engine.text.text_source import Wanted
from workers.engine.text.token_cache import find_count, keep_count

SAMPLES_IN_TIME = "samples-in-time.json"  # how many there was time for, where minutes are bounded
TEXT_SHARE = 0.15  # of the minutes that are given to the whole: a half to see how far it goes, and a half to go there

R = TypeVar("R")
T = TypeVar("T", bound=Options)


def training_samples(job: RecoveryJob, options: TrainedRecovery) -> Samples:
    """The packed training text, as far as it is given left in the file in which it is kept: int32 then.

    No more of a text is read, tokenised or generated than the training's bounds let it take (`most_samples`).

    Raises:
        InvalidInput: the text is too short or cannot be read.
    """
    text = pinned(job, options.text)
    timed = options.max_minutes is not None

    def read(samples: int | None, progress: Progress) -> Samples:
        wanted = Wanted("training", samples, options.tokens, options.bos, exact=False, mapped=True, timed=timed)
        return samples_of(job.texts, text, wanted, progress)

    sample = {"tokens": options.tokens, "bytes": options.tokens * TOKEN_BYTES}
    return in_time(job, read, samples_asked(options), sample=sample)


def in_time(
    job: RecoveryJob, read: Callable[[int | None, Progress], R], samples: int | None, *, sample: Mapping[str, int]
) -> R:
    """What `read` makes of so many samples; of fewer, where its part of `max_minutes` is not enough for them.

    How many those are is kept for the next attempt, and on the machine: the check of a job finds it for its recovery.

    Args:
        sample: how much of a unit of the progress a sample is; the reading may be ended at these units.
    """
    known = {
        "samples in time": job.options.model_dump(mode="json"),
        "tokenizer": job.texts.tokenizer_fingerprint,
        "model": job.texts.fingerprint,
    }
    fewer = job.recall(SAMPLES_IN_TIME)
    if fewer is None:
        fewer = find_count(job.texts.cache, known) if job.clock.limit is not None else None
    if fewer is None:
        try:
            with job.clock.part("text", job.progress, share=TEXT_SHARE / 2, units=sample) as progress:
                return read(samples, progress)
        except TimeUp as up:
            fewer = max(1, up.done // sample[up.unit])
            keep_count(job.texts.cache, known, fewer)
            job.log(f"A part of `max_minutes` has passed with the text, so it has {fewer:,} samples.")
    fewer = job.remembered(SAMPLES_IN_TIME, lambda: fewer)
    with job.clock.part("text", job.progress):
        return read(fewer, job.progress)


def pinned(job: RecoveryJob, text: T, *, part: str = "") -> T:
    """`text`, at the commit at which the first attempt of this stage found it, if it is one on the hub.

    A branch that moves between two attempts would give them other tokens, and the training would begin anew.

    Args:
        part: which part of a blend it is.
    """
    if isinstance(text, BlendText):
        pins = [pinned(job, each.text, part=f"-{number}") for number, each in enumerate(text.parts)]
        parts = [each.model_copy(update={"text": pin}) for each, pin in zip(text.parts, pins, strict=True)]
        return text.model_copy(update={"parts": tuple(parts)})
    if isinstance(text, AnswersText) and text.prompts is not None:
        return text.model_copy(update={"prompts": pinned(job, text.prompts, part=part)})
    if not isinstance(text, HubText):
        return text
    commit = job.remembered(f"text-commit{part}.json", lambda: hub_revision(text))
    return text.model_copy(update={"revision": commit})


def most_samples(options: TrainedRecovery, *, passes: float | None = None) -> int | None:
    """How many samples a training can take before its bounds end it, those held out included; None: without bound.

    `samples`, `max_steps` and `max_tokens` bound so what is read of every source of text, and with it all work and
    memory that a sample costs: its tokens, the original's predictions on it, the maps that are fitted on it.

    Args:
        passes: how often a sample is trained on at most; None: once, so that each step has samples of its own.
    """
    steps = [options.max_steps] if options.max_steps is not None else []
    if options.max_tokens is not None:
        steps.append(max(1, options.max_tokens // (options.batch_size * options.tokens)))
    bounds = [options.samples] if options.samples is not None else []
    if steps:
        taken = math.ceil(min(steps) * options.batch_size / (passes or min(1.0, options.epochs)))
        bounds.append(math.ceil(taken / (1 - options.validation)) + bool(options.validation))
    return min(bounds, default=None)


def samples_asked(options: TrainedRecovery) -> int | None:
    """How many samples of its text a training asks for; None: all that there are.

    Text that is given costs little to read, so each step has samples of its own. What the model has to write first is
    most of the work of a short training: it is trained on as often as `epochs` says, and no more of it is written.
    """
    if options.samples is None and is_written(options.text):
        return min(most_samples(options, passes=options.epochs) or GENERATED_SAMPLES, GENERATED_SAMPLES)
    return most_samples(options)
