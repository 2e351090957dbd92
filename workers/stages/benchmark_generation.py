"""What the variants generate: samples to read, and the built-in checks. Prompts are encoded once for all variants.

Both are made by default, so what stands in their way is a note and fails no job: a tokenizer that lacks tokens, a model
that holds too few.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import TypeAdapter
from transformers import PreTrainedModel

from secateur.contract.errors import InvalidInput
from secateur.contract.measurements import GenerationScore, Sample
from secateur.contract.models.positions import fitting_samples, positions_of
from secateur.contract.options.benchmark import GenerationBenchmark, GenerationCheck
from workers.engine.benchmarks.generation_checks import Answers, answer_prompts, generation_scores
from workers.engine.benchmarks.generation_items import Item, items_of
from workers.engine.benchmarks.samples import write_samples
from workers.engine.text.prompts import Prompt, Prompts, encoded_prompts, token_counts
from workers.engine.text.text_source import TextSource
from workers.stages.context import StageContext
from workers.stages.known_figures import KnownFigures

SPARE = 6  # tokens beyond the right answer's, within which one that is no longer right shows itself

Sampler = Callable[[KnownFigures, PreTrainedModel], list[Sample]]


def sampler(context: StageContext, source: TextSource, notes: list[str]) -> Sampler | None:
    """What writes one variant's samples; None, with a note where they were asked for, if there are to be none."""
    asked = context.stage.spec.benchmark.samples
    if asked is None:
        return None
    positions = positions_of(source.config.to_dict())
    options = fitting_samples(asked, positions)
    if options != asked:
        notes.append(
            f"The model holds {positions:,} tokens, so samples have {options.max_new_tokens} new ones and not the "
            f"usual {asked.max_new_tokens}."
        )
    try:
        prompts = _encoded(
            source,
            [Prompt.of(prompt) for prompt in options.prompts],
            what="samples",
            chat=options.chat,
            new=options.max_new_tokens,
            notes=notes,
        )
    except InvalidInput as error:
        notes.append(f"No samples were written. {error.detail}")
        return None
    seed = context.stage.spec.seed
    settings = [options.model_dump(mode="json"), seed, prompts.chat]

    def samples(figures: KnownFigures, model: PreTrainedModel) -> list[Sample]:
        def measure() -> list[Sample]:
            return write_samples(
                model,
                source.tokenizer,
                prompts,
                max_new_tokens=options.max_new_tokens,
                temperature=options.temperature,
                seed=seed,
                progress=context.progress,
            )

        return figures.recall("samples", settings, TypeAdapter(list[Sample]), measure)

    return samples


@dataclass(frozen=True)
class GenerationChecks:
    """The checks of this job: its prompts with their answers, encoded for its model."""

    context: StageContext
    source: TextSource
    options: GenerationBenchmark
    items: Mapping[GenerationCheck, list[Item]]
    prompts: Prompts
    most: list[int]  # tokens of each answer

    def answers(self, figures: KnownFigures, model: PreTrainedModel) -> Answers:
        """What one variant answers; of the original, what it answered in an earlier job."""

        def measure() -> Answers:
            return answer_prompts(
                model,
                self.source.tokenizer,
                self.items,
                self.prompts,
                most=self.most,
                progress=self.context.progress,
            )

        written = hashlib.sha256(json.dumps(self.prompts.texts).encode()).hexdigest()
        settings = [self.options.model_dump(mode="json"), written, self.prompts.chat, self.most]
        return figures.recall("generation", settings, TypeAdapter(Answers), measure)

    def scores(self, answers: Answers, original: Answers | None) -> list[GenerationScore]:
        """Their figures; `original` is None for the original itself."""
        return generation_scores(answers, self.items, original)


def generation_checks(context: StageContext, source: TextSource, notes: list[str]) -> GenerationChecks | None:
    """The checks to make; None, with a note where they were asked for, if there are to be none."""
    options = context.stage.spec.benchmark.generation
    if options is None:
        return None
    items = {
        check: items_of(check, prompts=options.prompts, seed=context.stage.spec.seed)
        for check in dict.fromkeys(options.checks)
    }
    try:
        prompts = _encoded(
            source,
            [item.prompt() for of_check in items.values() for item in of_check],
            what="generation checks",
            chat=options.chat,
            new=options.max_new_tokens,
            notes=notes,
        )
        right = token_counts(source.tokenizer, [item.answer for of_check in items.values() for item in of_check])
    except InvalidInput as error:
        notes.append(f"No generation checks were made. {error.detail}")
        return None
    positions = positions_of(source.config.to_dict())
    if positions is not None and prompts.longest + options.max_new_tokens > positions:
        notes.append(
            f"No generation checks were made. Their prompts have up to {prompts.longest:,} tokens, and with "
            f"{options.max_new_tokens:,} new ones that is more than the {positions:,} that the model holds."
        )
        return None
    most = [min(options.max_new_tokens, count + SPARE) for count in right]
    return GenerationChecks(context, source, options, items, prompts, most)


def _encoded(
    source: TextSource, prompts: list[Prompt], *, what: str, chat: bool, new: int, notes: list[str]
) -> Prompts:
    """Raises InvalidInput: the tokenizer cannot take them."""
    positions = positions_of(source.config.to_dict())
    room = None if positions is None else positions - new
    rows = int(source.config.vocab_size)
    found = encoded_prompts(source.tokenizer, prompts, chat=chat, rows=rows, room=room)
    if found.fault:
        notes.append(f"The prompts of the {what} are plain text: the chat template cannot be used. {found.fault}")
    return found
