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
from secateur.contract.estimates.work import HEALED_TOKENS, measures_a_file
from secateur.contract.options.joint import JointPruning
from secateur.contract.options.pruning import DepthPruning
from secateur.contract.options.recovery import DistillRecovery, HealingRecovery, LoraRecovery
from secateur.contract.options.scoring import FINALIST_BATCH, TextScoring
from secateur.contract.options.texts import Calibration
from secateur.contract.options.training import TrainedRecovery
from secateur.contract.options.vocabulary import VocabularyPruning
from secateur.contract.options.width import WidthPruning
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_kinds import BENCHMARK, CHECK, CHOOSE, DRAFT, PRUNE, QUANTISE, RECOVER, SCORE

LIBRARIES = 330 << 20  # of a process with torch and transformers, beside its mapped files
TOKEN = 1600  # of a tokenizer, for each that it knows
LOGITS_AT_ONCE = {"cpu": 32 << 20, "cuda": 128 << 20}  # that the head makes of a text
LOGITS_COPIES = 3  # as they are, in float32, and their softmax
TRAINED_LOGITS_COPIES = 4  # and their gradient
JUDGED_LOGITS_COPIES = 7  # of two models': as they are, their logarithms, and what the divergence is made of
TOKENS_AT_ONCE = 4096  # of a text that go through a block
HELD_OUT = 5  # one sample of so many is judged on,
HELD_TOKENS = 4096  # but no more than hold so many tokens
PANEL = 1024  # columns of a factor that are made at a time
FLOAT, DOUBLE = 4, 8  # bytes
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

    @property
    def tokenizer(self) -> int:
        return TOKEN * self.model.vocabulary

    @property
    def inner(self) -> int:
        """Neurons of an MLP."""
        return int(self.model.config.get("intermediate_size") or 4 * self.model.hidden)

    @property
    def head_dim(self) -> int:
        """Numbers of a head, where the config tells."""
        heads = int(self.model.config.get("num_attention_heads") or 0)
        return int(self.model.config.get("head_dim") or (self.model.hidden // heads if heads else 0))

    @property
    def packs(self) -> bool:
        """Whether weights are brought into the processor's own order, which is a copy."""
        return self.device == "cpu" and self.width == FLOAT

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
    whole, embedding = FLOAT * setting.parameters, FLOAT * max(setting.head, setting.model.count.embedding)
    return setting.tokenizer + (max(whole, 2 * embedding) if setting.imported else 0)  # unpacked, and then in its place


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
    packs = setting.packs and not gradients
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
        return BUFFERS + setting.tokenizer
    if isinstance(pruning, DepthPruning) or getattr(pruning, "drop", None) is not None:
        return BUFFERS
    calibration: Calibration = pruning.calibration
    if pruning.kind == "sub_block":
        return _walk(setting, calibration, states=2 * len(setting.model.count.blocks) + 1, often=True)
    if isinstance(pruning, JointPruning):  # each choice alone is walked in one piece
        states = len(pruning.choices) * len(setting.model.count.blocks) + 1
        return _walk(setting, calibration, states=states, often=True)
    if isinstance(pruning, WidthPruning) and pruning.kind != "llm_pruner":
        return _watched(setting, calibration)
    return _walk(setting, calibration, states=2) + 2 * setting.width * setting.largest_block


def _watched(setting: Setting, calibration: Calibration) -> int:
    """Blocks from disk, one in use and one ahead, whose neurons are squared and added up in double precision."""
    tokens = calibration.samples * calibration.tokens
    streamed = setting.parameters - sum(setting.model.count.per_block) + 2 * setting.largest_block
    at_once = min(tokens, TOKENS_AT_ONCE) * setting.inner * (3 * setting.width + 2 * DOUBLE)
    return setting.tokenizer + (streamed + 2 * tokens * setting.model.hidden) * setting.width + at_once


def _recover(setting: Setting) -> int:
    recovery: Any = setting.spec.recovery
    if isinstance(recovery, HealingRecovery):
        refits = recovery.refit == "after_cut"
        return setting.tokenizer + _healing(setting, recovery.samples * recovery.tokens, recovery.tokens, refits=refits)
    if not isinstance(recovery, TrainedRecovery):
        return 0
    healed = 0
    if recovery.heal is not False:
        given = HEALED_TOKENS if recovery.samples is None else recovery.samples * recovery.tokens
        healed = _healing(setting, min(given, HEALED_TOKENS), recovery.tokens)
    return setting.tokenizer + max(healed, _training(setting, recovery))


def _healing(setting: Setting, tokens: int, per_sample: int, *, refits: bool = True) -> int:
    """The original, states of all of the text in both models, and what was found for each block; beside them either the
    sums of a fit with the tokens that it is judged on, or the predictions of both models on these.
    """
    hidden, inner = setting.model.hidden, setting.inner
    heads = int(setting.model.config.get("num_attention_heads", 0)) * setting.head_dim or hidden
    found = (_refitted(setting) if refits else 1) * (inner + heads) * hidden * FLOAT
    held = max(per_sample, min(tokens // HELD_OUT, HELD_TOKENS))
    sums = DOUBLE * (inner * (inner + min(inner, PANEL)) + 3 * inner * hidden)
    pieces = (inner + hidden) * (DOUBLE * min(tokens, TOKENS_AT_ONCE) + FLOAT * held)
    packed = FLOAT * setting.head if setting.packs else 0
    logits = min(held * setting.model.vocabulary * FLOAT, LOGITS_AT_ONCE[setting.device])
    carried = setting.loaded(setting.parameters) + 4 * tokens * hidden * FLOAT + found
    return carried + max(sums + pieces, packed + JUDGED_LOGITS_COPIES * logits)


def _refitted(setting: Setting) -> int:
    """How many blocks are fitted anew: the one before the first cut and all that follow, or half of what is left."""
    left = len(setting.model.count.blocks) - round(setting.removal.blocks if setting.removal else 0)
    pruning = setting.spec.pruning
    if isinstance(pruning, DepthPruning) and pruning.drop:
        return left - max(0, min(pruning.drop) - 1)
    return left // 2


def _training(setting: Setting, recovery: Any) -> int:
    """The teacher's predictions, and then the training: what one step keeps, or what it takes on its way back.

    Moments are made by the first step, when its states are gone.
    """
    train = getattr(recovery, "train", "all")
    adapted = isinstance(recovery, LoraRecovery) or train == "lora"
    taught = setting.parameters if setting.target is None else setting.target.count.total
    teacher = setting.loaded(taught) if isinstance(recovery, DistillRecovery) else 0
    again = getattr(recovery, "gradient_checkpointing", False)
    backward = _backward(setting, recovery.micro_batch_size * recovery.tokens, again=again)
    if adapted:
        return max(teacher, setting.loaded(setting.left) + backward)
    kept, gradients = ADAMW[recovery.optimizer] * setting.left, FLOAT * setting.left
    way_back = backward if recovery.batch_size == recovery.micro_batch_size else gradients + backward
    if recovery.most_steps == 1:
        return max(teacher, kept, setting.loaded(setting.left) + way_back)
    return max(teacher, kept, kept - gradients + way_back)


def _backward(setting: Setting, tokens: int, *, again: bool = False) -> int:
    """What a training keeps of a micro-batch of so many tokens for its way back, and the logits.

    Args:
        again: states within a block are computed once more when its turn comes.
    """
    hidden, blocks = setting.model.hidden, len(setting.model.count.blocks)
    of_a_block = STATES_OF_A_BLOCK * hidden + 3 * setting.inner
    states = tokens * (of_a_block + blocks * hidden if again else of_a_block * blocks)
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
        packed = 2 * FLOAT * setting.head if setting.packs else 0
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
