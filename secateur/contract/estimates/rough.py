"""How long a stage may take where none like it has run here: by its arithmetic, and how fast the worker multiplies.

What scores, heals and trains is counted in operations, what generates token by token in weights that are read, what
copies in bytes. The worker's probe has measured how many of the first two its device does in a second
(`workers/engine/device_speed.py`). Overheads, caches and whatever else the machine does are in none of that, so the
answer is a span: half and twice what comes out. The constants were held against measurements (docs/benchmarks.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from secateur.contract.estimates.setting import Setting
from secateur.contract.estimates.work import (
    HEALED_TOKENS,
    Scale,
    tokens_read,
    tokens_written,
    variants_measured,
    work_of,
)
from secateur.contract.options.pruning import DepthPruning
from secateur.contract.options.quantise import GptqQuantisation
from secateur.contract.options.recovery import DistillRecovery, HealingRecovery, LoraRecovery
from secateur.contract.options.scoring import TextScoring
from secateur.contract.options.texts import Text, is_written
from secateur.contract.options.training import TrainedRecovery
from secateur.contract.options.vocabulary import VocabularyPruning
from secateur.contract.stage_kinds import (
    BENCHMARK,
    CHECK,
    CHOOSE,
    CORRECT,
    DRAFT,
    PRUNE,
    QUANTISE,
    RECOVER,
    REPORT,
    SCORE,
)
from secateur.contract.training_steps import GENERATED_SAMPLES

SPREAD = 2.0  # either way
START = 3.0  # seconds until a stage's process has its libraries and its model
COPIED = 3e8  # bytes a second, read and written
UNPACKED = 1e8  # of a GGUF file, in float32; and of what is rounded
FORWARD, BACKWARD = 2, 4  # operations for a token and a parameter
TRAINED = 2.0  # times more than its operations at full speed: steps of few tokens, and the optimizer between
HEALED = 6.0  # the same of healing, with its sums and what is judged
CHOSEN = 2.0  # and of a set that is healed to be judged, for a token of a walk
WRITTEN_AT_ONCE = 128  # sequences that a model writes
# What drafts are tried with (`workers/stages/draft.py`).
DRAFT_SAMPLES, DRAFT_TOKENS = 64, 128  # of the target's text
TIMED_TOKENS = 7 * 24  # that each model writes to be timed, the target twice
TIMED_DEPTHS = 3.0  # of the model, in whole models
TRIED_DEPTHS = 10  # that are healed and judged


@dataclass(frozen=True)
class Speed:
    """Of a worker's device, in the arithmetic that its stages have by default."""

    flops: float  # a second, of large products
    read: float  # bytes of weights a second, where they meet a single token


@dataclass(frozen=True)
class Span:
    """Seconds, as a span."""

    low: float
    high: float


@dataclass(frozen=True)
class _Effort:
    flops: float = 0.0
    read: float = 0.0  # bytes of weights
    seconds: float = 0.0  # of what neither of them tells

    def __add__(self, other: _Effort) -> _Effort:
        return _Effort(self.flops + other.flops, self.read + other.read, self.seconds + other.seconds)


def rough_duration(kind: str, setting: Setting, speed: Speed) -> Span | None:
    """The time of a stage; None where the spec does not tell how much it has to do, as with tasks."""
    effort = _EFFORTS[kind](setting) if kind in _EFFORTS else None
    if effort is None:
        return None
    seconds = START + effort.seconds + effort.flops / speed.flops + effort.read / speed.read
    return Span(seconds / SPREAD, seconds * SPREAD)


def _copied(setting: Setting, rate: float) -> _Effort:
    stored = setting.model.stored
    return _Effort(seconds=(stored.total if stored else setting.parameters * setting.width) / rate)


def _check(setting: Setting) -> _Effort:
    return _copied(setting, UNPACKED) if setting.imported else _Effort()


def _text(setting: Setting, text: Text, samples: int, tokens: int) -> _Effort:
    """What the original writes; reading what is given takes next to nothing."""
    if not is_written(text):
        return _Effort()
    rounds = tokens * math.ceil(samples / WRITTEN_AT_ONCE)
    return _Effort(
        flops=FORWARD * samples * tokens * setting.parameters, read=rounds * setting.parameters * setting.width
    )


def _score(setting: Setting) -> _Effort | None:
    scoring = setting.spec.scoring
    if not isinstance(scoring, TextScoring):
        return _copied(setting, COPIED)
    blocks, calibration = setting.model.count.per_block, scoring.calibration
    walks = scoring.walks(len(blocks), setting.removal.blocks if setting.removal else None)
    if walks is None:
        return None
    heads = 1 if walks == 1 else 2 * walks  # of half a walk, as one is on the average, each has the head's whole
    operations = FORWARD * (walks * sum(blocks) + heads * setting.head)
    if scoring.criterion == "taylor":
        operations += BACKWARD * setting.parameters
    written = _text(setting, calibration.text, calibration.samples, calibration.tokens)
    return written + _Effort(flops=operations * calibration.samples * calibration.tokens)


def _draft(setting: Setting) -> _Effort | None:
    """The target's answers, a few depths timed beside it, and each that is tried healed and judged."""
    if setting.target is None:
        return None
    target, tokens = setting.target.count.total, DRAFT_SAMPLES * DRAFT_TOKENS
    read = DRAFT_TOKENS * target + TIMED_TOKENS * (2 * target + TIMED_DEPTHS * setting.parameters)
    once = 0.0 if setting.spec.recovery.kind == "none" else HEALED
    tried = TRIED_DEPTHS * (once + FORWARD) * tokens * setting.parameters
    return _Effort(flops=FORWARD * tokens * target + tried, read=read * setting.width)


def _choose(setting: Setting) -> _Effort | None:
    scoring = setting.spec.scoring
    work = work_of(CHOOSE.name, setting.spec, _scale(setting))
    if work is None:
        return None
    text = scoring.healing_text
    return _text(setting, text.text, text.samples, text.tokens) + _Effort(flops=CHOSEN * work.amount)


def _prune(setting: Setting) -> _Effort | None:
    pruning = setting.spec.pruning
    if isinstance(pruning, DepthPruning | VocabularyPruning) or getattr(pruning, "drop", None) is not None:
        return _copied(setting, COPIED)
    calibration = pruning.calibration
    work = work_of(PRUNE.name, setting.spec, _scale(setting))
    if work is None:
        return None
    written = _text(setting, calibration.text, calibration.samples, calibration.tokens)
    return written + _copied(setting, COPIED) + _Effort(flops=FORWARD * work.amount)


def _recover(setting: Setting) -> _Effort | None:
    recovery: Any = setting.spec.recovery
    if setting.spec.target_model is not None:  # a draft's target writes and teaches, and is larger
        return None
    if isinstance(recovery, HealingRecovery):
        written = _text(setting, recovery.text, recovery.samples, recovery.tokens)
        return written + _copied(setting, COPIED) + _healing(setting, recovery.samples * recovery.tokens)
    if not isinstance(recovery, TrainedRecovery):
        return None
    steps = recovery.most_steps
    if steps is None:
        return None
    trained = steps * recovery.batch_size  # samples
    given = recovery.samples or GENERATED_SAMPLES
    samples = min(given, math.ceil(trained / recovery.epochs)) if is_written(recovery.text) else trained
    adapted = isinstance(recovery, LoraRecovery) or getattr(recovery, "train", "") == "lora"
    operations = TRAINED * (FORWARD + BACKWARD * (0.5 if adapted else 1)) * trained * recovery.tokens * setting.left
    if isinstance(recovery, DistillRecovery):  # the original's predictions
        operations += FORWARD * samples * recovery.tokens * setting.parameters
    effort = _text(setting, recovery.text, samples, recovery.tokens) + _Effort(flops=operations)
    if recovery.heal is not False:
        effort += _healing(setting, min(samples * recovery.tokens, HEALED_TOKENS))
    return effort + _copied(setting, COPIED)


def _healing(setting: Setting, tokens: int) -> _Effort:
    return _Effort(flops=HEALED * tokens * setting.parameters)


def _quantise(setting: Setting) -> _Effort:
    effort = _Effort()
    for way in setting.spec.quantise:
        effort += _copied(setting, UNPACKED)
        if isinstance(way, GptqQuantisation):
            text = way.calibration
            effort += _text(setting, text.text, text.samples, text.tokens)
            effort += _healing(setting, text.samples * text.tokens)
    return effort


def _benchmark(setting: Setting) -> _Effort | None:
    benchmark = setting.spec.benchmark
    if benchmark.tasks is not None or setting.spec.target_model is not None:
        return None
    models = variants_measured(setting.spec) * setting.parameters
    effort = _Effort(
        flops=FORWARD * tokens_read(benchmark) * models, read=tokens_written(benchmark) * models * setting.width
    )
    if benchmark.perplexity is not None:
        for text in benchmark.perplexity.texts:
            effort += _text(setting, text, benchmark.perplexity.windows, benchmark.perplexity.tokens)
    return effort


def _scale(setting: Setting) -> Scale:
    return Scale(setting.parameters, len(setting.model.count.blocks), setting.parameters * setting.width)


_EFFORTS: Mapping[str, Callable[[Setting], _Effort | None]] = {
    CHECK.name: _check,
    SCORE.name: _score,
    DRAFT.name: _draft,
    CHOOSE.name: _choose,
    PRUNE.name: _prune,
    RECOVER.name: _recover,
    QUANTISE.name: _quantise,
    BENCHMARK.name: _benchmark,
    CORRECT.name: lambda setting: _Effort(),
    REPORT.name: lambda setting: _Effort(),
}
