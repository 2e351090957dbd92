"""How much work a stage has, in units of its kind and method: what its time is judged by, from stages of the same kind.

Nothing here knows how fast anything is. Only stages of one `Task` are compared, so a unit is right if twice as much of
it takes twice as long: tokens through parameters for what computes, bytes for what copies, the stage for the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from secateur.contract.depth import blocks_to_remove
from secateur.contract.options.benchmark import Benchmark
from secateur.contract.options.joint import JointPruning
from secateur.contract.options.pruning import DepthPruning, SubBlockPruning
from secateur.contract.options.quantise import GptqQuantisation
from secateur.contract.options.recovery import HealingRecovery, NoRecovery
from secateur.contract.options.scoring import FINALIST_BATCH, TextScoring
from secateur.contract.options.texts import Calibration, is_written
from secateur.contract.options.training import TrainedRecovery
from secateur.contract.options.vocabulary import VocabularyPruning
from secateur.contract.spec import CompressionSpec, LocalModel
from secateur.contract.stage_kinds import BENCHMARK, CHOOSE, DRAFT, PRUNE, QUANTISE, RECOVER, SCORE
from secateur.contract.sub_blocks import units_to_remove

TOKEN_PARAMETER = "token and parameter"
PARAMETER = "parameter"
BYTE = "byte"
STAGE = "stage"
WRITTEN_AT_ONCE = 8  # generated sequences that cost as much as one, since their weights are read once
READ_AT_ONCE = 8  # tokens of a text that cost as much as one that is generated
WALKS_OF_A_STEP = 3  # a step of training in walks over its samples
SETS_IN_A_WALK = 2  # of a joint search, which have about half of their blocks in common
HEALING_WALKS = 3  # the original's, the healed model's, and the fits
VARIANTS = 2  # the original and what came of it, beside those that are quantised
HEALED_TOKENS = 65_536  # of a text that a training follows on, at most


@dataclass(frozen=True)
class Scale:
    """The model that the work is done on."""

    parameters: int
    blocks: int
    bytes: int  # of its tensors
    target: int = 0  # parameters of the model that a draft is for


@dataclass(frozen=True)
class Task:
    """What stages have in common whose times can be compared."""

    kind: str
    method: str


@dataclass(frozen=True)
class Work:
    """So many units."""

    amount: float
    unit: str


ONE_STAGE = Work(1, STAGE)


def task_of(kind: str, spec: CompressionSpec) -> Task:
    """What a stage of this kind does for such a job."""
    return Task(kind, _METHODS[kind](spec) if kind in _METHODS else "")


def work_of(kind: str, spec: CompressionSpec, scale: Scale) -> Work | None:
    """The work of a stage of this kind; None where the spec does not tell, as with texts that are read to their end."""
    return _WORK[kind](spec, scale) if kind in _WORK else ONE_STAGE


def _scoring_method(spec: CompressionSpec) -> str:
    return spec.scoring.criterion


def _choice_method(spec: CompressionSpec) -> str:
    return "with finalists" if spec.scoring.finalists is not None else ""


def _draft_method(spec: CompressionSpec) -> str:
    return "" if spec.recovery.kind == "none" else "healed"


def _pruning_method(spec: CompressionSpec) -> str:
    named = getattr(spec.pruning, "drop", None) is not None
    return f"{spec.pruning.kind} of what is named" if named else spec.pruning.kind


def _recovery_method(spec: CompressionSpec) -> str:
    recovery = spec.recovery
    trained = getattr(recovery, "train", "")
    healed = "healed" if getattr(recovery, "heal", False) is not False else ""
    text = getattr(recovery, "text", None)
    written = "written text" if text is not None and is_written(text) else ""
    return " ".join(part for part in (recovery.kind, trained, healed, written) if part)


def _quantise_method(spec: CompressionSpec) -> str:
    return " ".join(sorted({way.kind for way in spec.quantise}))


def _benchmark_method(spec: CompressionSpec) -> str:
    parts = [name for name in type(spec.benchmark).model_fields if name != "reuse_original"]
    tasks = spec.benchmark.tasks
    named = [] if tasks is None else sorted(tasks.tasks)
    return " ".join([*(name for name in parts if spec.benchmark.measures(name)), *named])


_METHODS: Mapping[str, Callable[[CompressionSpec], str]] = {
    SCORE.name: _scoring_method,
    CHOOSE.name: _choice_method,
    DRAFT.name: _draft_method,
    PRUNE.name: _pruning_method,
    RECOVER.name: _recovery_method,
    QUANTISE.name: _quantise_method,
    BENCHMARK.name: _benchmark_method,
}


def _tokens(calibration: Calibration) -> int:
    return calibration.samples * calibration.tokens


def _score(spec: CompressionSpec, scale: Scale) -> Work | None:
    scoring = spec.scoring
    if not isinstance(scoring, TextScoring):
        return Work(scale.bytes, BYTE)
    walks = scoring.walks(scale.blocks, _known_number(spec, scale))
    if walks is None:
        return None
    return Work(walks * _tokens(scoring.calibration) * scale.parameters, TOKEN_PARAMETER)


def _choose(spec: CompressionSpec, scale: Scale) -> Work:
    """Healing and judging a set is about a walk; a step is three, there and back, and of fewer samples."""
    scoring = spec.scoring
    walks = (1 + scoring.candidates) * scoring.healing_samples
    walks += (scoring.finalists or 0) * scoring.finalist_steps * WALKS_OF_A_STEP * FINALIST_BATCH
    return Work(walks * scoring.healing_text.tokens * scale.parameters, TOKEN_PARAMETER)


def _known_number(spec: CompressionSpec, scale: Scale) -> int | None:
    """How many blocks go, where that is known before the model has been looked at."""
    if not isinstance(spec.pruning, DepthPruning) or spec.pruning.target or spec.pruning.left_open:
        return None
    return blocks_to_remove(spec.pruning, scale.blocks)


def _draft(spec: CompressionSpec, scale: Scale) -> Work | None:
    """Texts, timings and depths are the same many whatever the models, of which both are computed with."""
    return Work(scale.parameters + scale.target, PARAMETER) if scale.target else None


def _prune(spec: CompressionSpec, scale: Scale) -> Work:
    pruning = spec.pruning
    if isinstance(pruning, DepthPruning | VocabularyPruning) or getattr(pruning, "drop", None) is not None:
        return Work(scale.bytes, BYTE)
    walks: float = 1
    if isinstance(pruning, SubBlockPruning):
        walks = scale.blocks * units_to_remove(pruning, scale.blocks)
    if isinstance(pruning, JointPruning):
        walks = (len(pruning.choices) * scale.blocks + pruning.evaluations) / SETS_IN_A_WALK
        fitted = 0 if pruning.healing is None else HEALING_WALKS * _tokens(pruning.healing)
        return Work((walks * _tokens(pruning.calibration) + fitted) * scale.parameters, TOKEN_PARAMETER)
    return Work(walks * _tokens(pruning.calibration) * scale.parameters, TOKEN_PARAMETER)


def _recover(spec: CompressionSpec, scale: Scale) -> Work | None:
    """Beside a draft's target most of the time is the target's, of whose size an earlier stage's row says nothing."""
    recovery = spec.recovery
    if spec.target_model is not None:
        return None
    if isinstance(recovery, HealingRecovery):
        return Work(recovery.samples * recovery.tokens * scale.parameters, TOKEN_PARAMETER)
    if not isinstance(recovery, TrainedRecovery):
        return None
    steps = recovery.most_steps
    if steps is None:
        return None
    return Work(steps * recovery.batch_size * recovery.tokens * scale.parameters, TOKEN_PARAMETER)


def _quantise(spec: CompressionSpec, scale: Scale) -> Work:
    texts = [_tokens(way.calibration) for way in spec.quantise if isinstance(way, GptqQuantisation)]
    if texts:
        return Work(sum(texts) * scale.parameters, TOKEN_PARAMETER)
    return Work(len(spec.quantise) * scale.bytes, BYTE)


def measures_a_file(spec: CompressionSpec) -> bool:
    """Whether a recovered model is measured once more, as the GGUF file in whose form it came in."""
    came_as_one = isinstance(spec.model, LocalModel) and spec.model.path.lower().endswith(".gguf")
    return came_as_one and not isinstance(spec.recovery, NoRecovery)


def variants_measured(spec: CompressionSpec) -> int:
    """How many models a benchmark measures."""
    recovered = 0 if isinstance(spec.recovery, NoRecovery) else 1
    between = len(spec.sizes.blocks or ()) if spec.sizes is not None else 0
    return VARIANTS + len(spec.quantise) + between + recovered + (1 if measures_a_file(spec) else 0)


def tokens_written(benchmark: Benchmark) -> float:
    """Tokens that each model generates one after the other; of several sequences at once, as many as cost the same."""
    tokens = 0.0
    if benchmark.latency is not None:
        rounds = benchmark.latency.warmup + benchmark.latency.runs
        sequences = sum(max(1.0, size / WRITTEN_AT_ONCE) for size in benchmark.latency.batch_sizes)
        tokens += rounds * sequences * sum(benchmark.latency.output_tokens)
    if benchmark.samples is not None:
        tokens += len(benchmark.samples.prompts) * benchmark.samples.max_new_tokens
    if benchmark.generation is not None:
        checks = benchmark.generation
        tokens += len(checks.checks) * checks.prompts * checks.max_new_tokens / WRITTEN_AT_ONCE
    return tokens


def tokens_read(benchmark: Benchmark) -> float:
    """Tokens of texts that are computed at once for each model; with the original's beside, where both are compared."""
    if benchmark.perplexity is None:
        return 0.0
    windows = len(benchmark.perplexity.texts) * benchmark.perplexity.windows
    return (2 if benchmark.fidelity.enabled else 1) * windows * benchmark.perplexity.tokens


def _benchmark(spec: CompressionSpec, scale: Scale) -> Work | None:
    if spec.target_model is not None:
        return None
    tokens = tokens_written(spec.benchmark) + tokens_read(spec.benchmark) / READ_AT_ONCE
    return Work(max(1.0, tokens) * variants_measured(spec) * scale.parameters, TOKEN_PARAMETER)


_WORK: Mapping[str, Callable[[CompressionSpec, Scale], Work | None]] = {
    SCORE.name: _score,
    DRAFT.name: _draft,
    CHOOSE.name: _choose,
    PRUNE.name: _prune,
    RECOVER.name: _recover,
    QUANTISE.name: _quantise,
    BENCHMARK.name: _benchmark,
}
