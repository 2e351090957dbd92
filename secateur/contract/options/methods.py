"""The one table of methods: whatever a job may name is a line here, and its options are in its own file.

The sections of a spec are these unions, so a type checker knows what stands behind `spec.scoring`. The catalogue, the
command line, the documentation and the check of a job are all read from them. What computes a method is in the engine,
in a table that a test holds against this one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, Field

from secateur.contract.options.benchmarks.fidelity import FidelityBenchmark
from secateur.contract.options.benchmarks.generation import GenerationBenchmark
from secateur.contract.options.benchmarks.latency import LatencyBenchmark
from secateur.contract.options.benchmarks.perplexity import PerplexityBenchmark
from secateur.contract.options.benchmarks.samples import SamplesBenchmark
from secateur.contract.options.benchmarks.tasks import TasksBenchmark
from secateur.contract.options.method import Method, Options
from secateur.contract.options.pruning.depth import DepthPruning
from secateur.contract.options.pruning.experts import ExpertPruning
from secateur.contract.options.pruning.flap import FlapPruning
from secateur.contract.options.pruning.llm_pruner import LlmPrunerPruning
from secateur.contract.options.pruning.sub_block import SubBlockPruning
from secateur.contract.options.pruning.wanda_sp import WandaSpPruning
from secateur.contract.options.quantise.gguf import GgufQuantisation
from secateur.contract.options.quantise.gptq import GptqQuantisation
from secateur.contract.options.quantise.int4 import Int4Quantisation
from secateur.contract.options.quantise.int8 import Int8Quantisation
from secateur.contract.options.recovery.continued import ContinuedRecovery
from secateur.contract.options.recovery.distill import DistillRecovery
from secateur.contract.options.recovery.healing import HealingRecovery
from secateur.contract.options.recovery.lora import LoraRecovery
from secateur.contract.options.recovery.none import NoRecovery
from secateur.contract.options.scoring.angular import AngularScoring
from secateur.contract.options.scoring.block_influence import BlockInfluenceScoring
from secateur.contract.options.scoring.cosine import CosineScoring
from secateur.contract.options.scoring.evolutionary import EvolutionaryScoring
from secateur.contract.options.scoring.greedy import GreedyScoring
from secateur.contract.options.scoring.healed_greedy import HealedGreedyScoring
from secateur.contract.options.scoring.magnitude import MagnitudeScoring
from secateur.contract.options.scoring.perplexity import PerplexityScoring
from secateur.contract.options.scoring.random import RandomScoring
from secateur.contract.options.scoring.taylor import TaylorScoring

# The methods that are meant where a spec names none.
USUAL_SCORING = PerplexityScoring
USUAL_RECOVERY = DistillRecovery


def _usually(usual: type[Method], tag: str) -> Callable[[Any], Any]:
    """Names the usual method in an object that names none."""
    name = usual.model_fields[tag].default

    def named(given: Any) -> Any:
        return {tag: name, **given} if isinstance(given, Mapping) else given

    return named


Scoring = Annotated[
    PerplexityScoring
    | TaylorScoring
    | MagnitudeScoring
    | BlockInfluenceScoring
    | AngularScoring
    | CosineScoring
    | GreedyScoring
    | HealedGreedyScoring
    | EvolutionaryScoring
    | RandomScoring,
    Field(discriminator="criterion"),
    BeforeValidator(_usually(USUAL_SCORING, "criterion")),
]

Pruning = Annotated[
    DepthPruning  #
    | SubBlockPruning
    | WandaSpPruning
    | FlapPruning
    | LlmPrunerPruning
    | ExpertPruning,
    Field(discriminator="kind"),
]

Recovery = Annotated[
    NoRecovery  #
    | LoraRecovery
    | DistillRecovery
    | ContinuedRecovery
    | HealingRecovery,
    Field(discriminator="kind"),
    BeforeValidator(_usually(USUAL_RECOVERY, "kind")),
]

Quantisation = Annotated[
    Int8Quantisation  #
    | Int4Quantisation
    | GptqQuantisation
    | GgufQuantisation,
    Field(discriminator="kind"),
]


class Benchmark(Options):
    """What is measured on the original and on each variant. `null` leaves a part out."""

    latency: LatencyBenchmark | None = Field(default_factory=LatencyBenchmark)
    perplexity: PerplexityBenchmark | None = Field(default_factory=PerplexityBenchmark)
    fidelity: FidelityBenchmark = Field(default_factory=FidelityBenchmark)
    samples: SamplesBenchmark | None = Field(default_factory=SamplesBenchmark)
    generation: GenerationBenchmark | None = Field(default_factory=GenerationBenchmark)
    tasks: TasksBenchmark | None = None
    reuse_original: bool = Field(
        default=True,
        description="Reuse the original's perplexity, samples, answers and tasks of an earlier job, where weights, "
        "machine and settings are the same. Speed, memory and fidelity are measured in every job, reuse or not.",
    )

    def measures(self, part: str) -> bool:
        """Whether the part of this name is asked for: it is there, and not switched off."""
        options = getattr(self, part)
        return options is not None and getattr(options, "enabled", True)


def methods_of(section: Any, tag: str) -> Mapping[str, type[Method]]:
    """The methods of one of the unions, by the name that stands in the field `tag` of a spec."""
    members: tuple[type[Method], ...] = get_args(get_args(section)[0])
    return {get_args(member.model_fields[tag].annotation)[0]: member for member in members}


def benchmarks() -> Mapping[str, type[Method]]:
    """The benchmarks, by the field of `Benchmark` that has their options."""
    found = {}
    for name, field in Benchmark.model_fields.items():
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, Method):
                found[name] = part
    return found
