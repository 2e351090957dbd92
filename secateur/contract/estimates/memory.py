"""The most memory that each stage uses, from sizes: weights, states, logits, what a training keeps, and the libraries.

Of a CPU it is what a worker holds against its limit for a stage, so weights that are computed with as they lie in
their files, which are mapped, do not count. Of a GPU it is the GPU's. The constants are measured (docs/benchmarks.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from secateur.contract.estimates.model import KnownModel
from secateur.contract.estimates.removal import Removal
from secateur.contract.estimates.work import measures_a_file
from secateur.contract.options.joint import JointPruning
from secateur.contract.options.pruning import DepthPruning
from secateur.contract.options.recovery import DistillRecovery, HealingRecovery, LoraRecovery
from secateur.contract.options.scoring import FINALIST_BATCH, TextScoring
from secateur.contract.options.texts import Calibration
from secateur.contract.options.training import TrainedRecovery
from secateur.contract.options.vocabulary import VocabularyPruning
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_kinds import BENCHMARK, CHECK, CHOOSE, DRAFT, PRUNE, QUANTISE, RECOVER, SCORE

LIBRARIES = 330 << 20  # of a process with torch and transformers, beside its mapped files
TOKENIZER = 64 << 20  # with what a check looks at of a text
LOGITS_AT_ONCE = {"cpu": 32 << 20, "cuda": 128 << 20}  # that the head makes of a text
LOGITS_COPIES = 3  # as they are, in float32, and their softmax
TRAINED_LOGITS_COPIES = 4  # and their gradient
FLOAT = 4  # bytes
ADAMW = {"adamw": 16, "adamw_8bit": 10}  # of a trained parameter: float32 weight and gradient, and the moments
STATES_OF_A_BLOCK = 23  # of the hidden size: what a training keeps of a block for its way back, MLP and heads apart
PROMPT_TOKENS = 128  # of the prompts on which drafts are measured, at most
BUFFERS = 16 << 20  # of what copies and rounds tensor by tensor


@dataclass(frozen=True)
class Setting:
    """One job on one kind of device."""

    spec: CompressionSpec
    model: KnownModel
    removal: Removal | None
    imported: bool  # whether the model comes as a GGUF file, which is unpacked at first
    device: str  # "cpu", "cuda"
    width: int  # bytes of a number in the stages' arithmetic
    target: KnownModel | None = None  # that a draft is for

    @property
    def parameters(self) -> int:
        return self.model.count.total

    @property
    def left(self) -> int:
        """Parameters of the pruned model."""
        return self.parameters - (self.removal.parameters if self.removal else 0)

    @property
    def largest_block(self) -> int:
        return max(block.total for block in self.model.count.blocks)

    @property
    def head(self) -> int:
        return self.model.count.head or self.model.count.embedding

    def loaded(self, parameters: int) -> int:
        """Bytes of weights that are computed with; none where they are the mapped file's own."""
        if self.device == "cpu" and self.model.stored is not None:
            mapped = self.imported or self.model.stored.total == self.parameters * self.width
            return 0 if mapped else parameters * self.width
        return parameters * self.width

    def logits(self, tokens: int) -> int:
        """Of a text, piece by piece."""
        whole = tokens * self.model.vocabulary * FLOAT
        return LOGITS_COPIES * min(whole, LOGITS_AT_ONCE[self.device])


def peak_memory(kind: str, setting: Setting) -> int:
    """Bytes that a stage of this kind uses at most."""
    libraries = LIBRARIES if setting.device == "cpu" else 0
    return libraries + (_NEEDS[kind](setting) if kind in _NEEDS else 0)


def _check(setting: Setting) -> int:
    if setting.device != "cpu":
        return 0
    return TOKENIZER + (2 * FLOAT * setting.parameters if setting.imported else 0)


def _walk(
    setting: Setting, calibration: Calibration, *, states: int, often: bool = False, gradients: bool = False
) -> int:
    """Walks over the blocks that carry so many states of the whole text.

    Args:
        often: all weights are packed for them, and not a block at a time.
        gradients: which packed weights have none of, so nothing is packed.
    """
    tokens = calibration.samples * calibration.tokens
    blocks = setting.model.count.per_block
    packs = setting.device == "cpu" and setting.width == FLOAT and not gradients
    packed = FLOAT * (setting.head + (sum(blocks) if often else max(blocks))) if packs else 0
    carried = states * tokens * setting.model.hidden * setting.width
    return setting.loaded(setting.parameters) + packed + carried + setting.logits(tokens)


def _score(setting: Setting) -> int:
    scoring = setting.spec.scoring
    if not isinstance(scoring, TextScoring):
        return BUFFERS
    states = len(setting.model.count.blocks) + 1 if scoring.carries_all else 2
    walked = _walk(
        setting, scoring.calibration, states=states, often=scoring.packs_all, gradients=scoring.needs_gradients
    )
    return walked + (FLOAT * setting.largest_block if scoring.needs_gradients else 0)


def _prune(setting: Setting) -> int:
    pruning = setting.spec.pruning
    if isinstance(pruning, VocabularyPruning):
        return BUFFERS + TOKENIZER
    if isinstance(pruning, DepthPruning) or getattr(pruning, "drop", None) is not None:
        return BUFFERS
    calibration: Calibration = pruning.calibration
    if pruning.kind == "sub_block":
        return _walk(setting, calibration, states=2 * len(setting.model.count.blocks) + 1, often=True)
    if isinstance(pruning, JointPruning):  # each choice alone is walked in one piece
        states = len(pruning.choices) * len(setting.model.count.blocks) + 1
        return _walk(setting, calibration, states=states, often=True)
    return _walk(setting, calibration, states=2) + 2 * setting.width * setting.largest_block


def _recover(setting: Setting) -> int:
    recovery: Any = setting.spec.recovery
    if isinstance(recovery, HealingRecovery):
        tokens = recovery.samples * recovery.tokens
        return setting.loaded(setting.parameters) + 4 * tokens * setting.model.hidden * FLOAT
    if not isinstance(recovery, TrainedRecovery):
        return 0
    train = getattr(recovery, "train", "all")
    adapted = isinstance(recovery, LoraRecovery) or train == "lora"
    taught = setting.parameters if setting.target is None else setting.target.count.total
    teacher = setting.loaded(taught) if isinstance(recovery, DistillRecovery) else 0
    backward = _backward(setting, recovery.micro_batch_size * recovery.tokens)
    if adapted:
        return max(teacher, setting.loaded(setting.left) + backward)
    kept, gradients = ADAMW[recovery.optimizer] * setting.left, FLOAT * setting.left
    if recovery.batch_size == recovery.micro_batch_size:  # gradients come as states go
        return max(teacher, kept - gradients + max(gradients, backward))
    return max(teacher, kept + backward)


def _backward(setting: Setting, tokens: int) -> int:
    """What a training keeps of a micro-batch of so many tokens for its way back, and the logits."""
    inner = 3 * int(setting.model.config.get("intermediate_size", 4 * setting.model.hidden))
    states = tokens * (STATES_OF_A_BLOCK * setting.model.hidden + inner) * len(setting.model.count.blocks)
    return states * setting.width + TRAINED_LOGITS_COPIES * tokens * setting.model.vocabulary * FLOAT


def _choose(setting: Setting) -> int:
    """States of the whole text at every depth; a block that is trained on them, or a whole finalist beside them."""
    scoring = setting.spec.scoring
    text = scoring.healing_text
    walked = _walk(setting, text, states=len(setting.model.count.blocks) + 1) + ADAMW["adamw"] * setting.largest_block
    if scoring.finalists is None:
        return walked
    return walked + setting.loaded(setting.left) + _backward(setting, FINALIST_BATCH * text.tokens)


def _quantise(setting: Setting) -> int:
    largest = max(setting.head, setting.model.count.embedding)
    return 2 * BUFFERS + 2 * FLOAT * largest


def _benchmark(setting: Setting) -> int:
    benchmark = setting.spec.benchmark
    variants = setting.parameters + setting.left * (1 if setting.spec.recovery.kind == "none" else 2)
    variants += 2 * setting.left * len(setting.spec.quantise)  # unpacked, and then in their place
    variants += setting.left if measures_a_file(setting.spec) else 0
    if benchmark.latency is None:
        weights = setting.loaded(variants)
        cache = 0
    else:  # those that are timed lie in memory of their own
        weights = variants * setting.width
        longest = benchmark.latency.input_tokens + max(benchmark.latency.output_tokens)
        tokens = max(benchmark.latency.batch_sizes) * longest
        cache = tokens * len(setting.model.count.blocks) * setting.model.cached * setting.width
    read = 0
    if benchmark.perplexity is not None:
        packed = 2 * FLOAT * setting.head if setting.device == "cpu" and setting.width == FLOAT else 0
        read = packed + 2 * setting.logits(benchmark.perplexity.tokens * benchmark.perplexity.windows)
    return max(weights + cache, setting.loaded(variants) + read, _drafting(setting, variants))


def _drafting(setting: Setting, variants: int) -> int:
    """The target beside all its drafts, each in memory of its own, with the caches of a prompt and its continuation."""
    options, target = setting.spec.benchmark.draft, setting.target
    if options is None or target is None:
        return 0
    tokens = options.max_new_tokens + PROMPT_TOKENS
    cached = len(target.count.blocks) * target.cached + len(setting.model.count.blocks) * setting.model.cached
    return (variants + target.count.total + tokens * cached) * setting.width


def _try_drafts(setting: Setting) -> int:
    """The target beside the model at four depths, whose mean is a half at most; then the model alone, walked."""
    if setting.target is None:
        return 0
    return (setting.target.count.total + 3 * setting.parameters) * setting.width


_NEEDS: Mapping[str, Callable[[Setting], int]] = {
    CHECK.name: _check,
    SCORE.name: _score,
    CHOOSE.name: _choose,
    DRAFT.name: _try_drafts,
    PRUNE.name: _prune,
    RECOVER.name: _recover,
    QUANTISE.name: _quantise,
    BENCHMARK.name: _benchmark,
}
