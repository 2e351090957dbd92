"""By which tokenizer a variant reads and writes: the original's, unless pruning has changed the vocabulary."""

from __future__ import annotations

from dataclasses import dataclass, replace

from workers.engine.architectures.config import as_config
from workers.engine.text.text_source import TextSource
from workers.stages.benchmark_generation import GenerationChecks, Sampler, generation_checks, sampler
from workers.stages.benchmark_variants import Variant
from workers.stages.context import StageContext

OTHER_TOKENS = (
    "Perplexity, KL divergence and top-1 agreement are of tokens, and the pruned model has other tokens than the "
    "original: none of them was measured. Bits per byte of the same text stand in their place, and speed is given per "
    "byte too."
)


@dataclass(frozen=True)
class Reading:
    """A tokenizer, with the prompts encoded by it."""

    context: StageContext
    source: TextSource
    samples: Sampler | None
    checks: GenerationChecks | None
    notes: list[str]

    @classmethod
    def of(cls, context: StageContext, source: TextSource, notes: list[str]) -> Reading:
        return cls(context, source, sampler(context, source, notes), generation_checks(context, source, notes), notes)

    def of_variant(self, variant: Variant) -> Reading:
        """By the tokenizer that lies beside the variant's own weights."""
        own = replace(self.source, checkpoint=variant.checkpoint.path, config=as_config(variant.checkpoint.config))
        return Reading.of(self.context, own, self.notes)
