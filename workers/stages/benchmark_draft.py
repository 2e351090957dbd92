"""The variants as speculative drafts of the job's target model: a part of the benchmark, where the job makes a draft.

The target and as many variants as fit beside it are in memory together; the original is one of them, so that the report
says whether pruning has made a better draft of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedTokenizerBase

from secateur.contract.drafts import draft_speedup
from secateur.contract.measurements import DraftFigures
from secateur.contract.models.positions import positions_of
from secateur.contract.numbers import RATIO, percent, ratio, significant
from secateur.contract.options.benchmark import DraftBenchmark
from workers.engine.benchmarks.drafting import Draft, Settings, measure_drafts
from workers.engine.benchmarks.placement import place_weights
from workers.engine.blame import blamed_on
from workers.engine.model.generation import derive_seed
from workers.engine.model.loading import free_memory, load_model
from workers.engine.runtime import Machine, available_memory
from workers.engine.text.prompts import Prompts, encoded_prompts
from workers.engine.text.prompts_to_answer import built_in
from workers.engine.text.text_source import TextSource
from workers.engine.text.tokenizer_loading import load_tokenizer
from workers.stages.benchmark_variants import Variant
from workers.stages.context import StageContext, part
from workers.stages.fields import DRAFT
from workers.stages.original import Original, open_target, text_source

MEMORY_SHARE = 0.7  # of the free memory: drafts that need more together are measured one after the other


def measure_as_drafts(context: StageContext, variants: Sequence[Variant], machine: Machine) -> list[str]:
    """Measure every variant that is timed; returns notes. Nothing is done for a job that measures no draft."""
    options = context.stage.spec.benchmark.draft
    return [] if options is None else _measure(context, options, variants, machine)


@part("as drafts")
def _measure(
    context: StageContext, options: DraftBenchmark, variants: Sequence[Variant], machine: Machine
) -> list[str]:
    target = open_target(context)
    source = text_source(context, target, machine)
    prompts = draft_prompts(source, variants[0].checkpoint.config, options)
    settings = Settings(options.tokens, options.max_new_tokens, options.runs, prompts.chat)
    rows = int(source.config.vocab_size)
    notes = [_plain(prompts)] if prompts.fault else []
    timed = [variant for variant in variants if variant.timed]
    for group in _groups(timed, target, machine):
        loaded = load_model(target.checkpoint, device=machine.device, dtype=machine.dtype)
        place_weights(loaded)
        drafts = {variant.name: _draft(variant, machine, rows, source.tokenizer) for variant in group}
        with blamed_on(
            DRAFT,
            f"The target {target.info.id} cannot generate with a draft",
            expected="a target whose cache can be cut back, or `draft`: null in the benchmark",
        ):
            found = measure_drafts(loaded, drafts, prompts.ids, settings, progress=context.progress)
        for variant in group:
            variant.draft = found[variant.name]
        del loaded, drafts
        free_memory()
    return [*notes, *_rows_note(timed, rows), *(note for variant in timed for note in _notes(variant, machine))]


def draft_prompts(source: TextSource, config: dict[str, object], options: DraftBenchmark) -> Prompts:
    """The prompts, drawn from the built-in ones by the job's seed, as the target's tokenizer has them.

    Args:
        config: of the draft.

    Raises:
        InvalidInput: the tokenizer cannot take them.
    """
    asked = built_in("measuring")
    order = torch.randperm(
        len(asked), generator=torch.Generator().manual_seed(derive_seed(source.seed, "drafts"))
    ).tolist()
    bounds = [held for held in (positions_of(source.config.to_dict()), positions_of(config)) if held is not None]
    room = min(bounds) - options.max_new_tokens - options.tokens if bounds else None
    chosen = [asked[place] for place in order[: options.prompts]]
    return encoded_prompts(source.tokenizer, chosen, chat=options.chat, rows=int(source.config.vocab_size), room=room)


def _draft(variant: Variant, machine: Machine, rows: int, tokenizer: PreTrainedTokenizerBase) -> Draft:
    model = load_model(variant.checkpoint, device=machine.device, dtype=machine.dtype)
    place_weights(model)
    if int(model.config.vocab_size) == rows:
        return Draft(model)
    return Draft(model, (tokenizer, load_tokenizer(variant.checkpoint.path)))


def _groups(variants: Sequence[Variant], target: Original, machine: Machine) -> list[list[Variant]]:
    """Variants to hold in memory together, beside the target."""
    needed = target.info.parameters + sum(variant.parameters for variant in variants)
    if needed * machine.dtype.itemsize <= MEMORY_SHARE * available_memory(machine.device):
        return [list(variants)]
    return [[variant] for variant in variants]


def _plain(prompts: Prompts) -> str:
    return f"Drafts were measured on prompts as plain text: the target's chat template cannot be used. {prompts.fault}"


def _rows_note(variants: Sequence[Variant], rows: int) -> list[str]:
    own = int(variants[0].checkpoint.config.get("vocab_size", rows))
    if own == rows:
        return []
    return [
        f"The embeddings of draft and target have {own:,} and {rows:,} rows, the rest of each being padding. "
        "transformers then turns what is proposed into text and back, which costs time and may cost acceptance; vLLM "
        "takes drafts with as many rows as the target alone."
    ]


def _notes(variant: Variant, machine: Machine) -> list[str]:
    """Whether the text stayed the target's, and what stands between the formula and what was measured."""
    found = variant.draft
    assert found is not None, "it was measured just now"
    return [*_differences(variant.name, found, machine), *_apart(variant.name, found)]


def _differences(name: str, found: DraftFigures, machine: Machine) -> list[str]:
    if not found.differences:
        return []
    dtype = str(machine.dtype).removeprefix("torch.")
    places = ", ".join(
        f"prompt {one.prompt + 1} at token {one.token + 1} (the two tokens are {percent(one.gap)} of the largest logit "
        "apart)"
        for one in found.differences
    )
    said = (
        f"With the {name} model as draft, {len(found.differences)} of {found.prompts} prompts were continued otherwise "
        f"than by the target alone: {places}."
    )
    if all(one.rounding for one in found.differences):
        return [
            f"{said} That is rounding: a pass over {found.tokens + 1} tokens adds up in another order than one over a "
            f"single token, and in {dtype} that may turn two tokens around which are as near as that."
        ]
    return [
        f"{said} That is more than rounding in {dtype} explains, so what generates with a draft here is not to be "
        "trusted, nor is its speed."
    ]


def _apart(name: str, found: DraftFigures) -> list[str]:
    if found.speedup.low <= found.expected <= found.speedup.high or found.verification.median < 1.1:
        return []
    alone = draft_speedup(found.acceptance, found.tokens, found.cost.median)
    return [
        f"With the {name} model as draft, the formula gives {ratio(alone)}, and {ratio(found.speedup.median)} "
        f"({RATIO.span(found.speedup.low, found.speedup.high)}) was measured. The formula takes a pass of the target "
        f"over {found.tokens + 1} tokens to cost what one over a single token does; here it costs "
        f"{significant(found.verification.median)} times as much, with which the formula gives "
        f"{ratio(found.expected_verified)}."
    ]
