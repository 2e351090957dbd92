"""Check of the model that a draft is for: it can be opened and computed with, and reads and writes the same tokens.

Whether a draft of this size can pay at all is told too, from the sizes of both: that is no fault, and refuses nothing.
"""

from __future__ import annotations

from secateur.contract.errors import InvalidInput
from secateur.contract.estimates.drafts import outlook_by_configs
from secateur.contract.models.positions import positions_of
from workers.engine.architectures.config import as_config
from workers.engine.architectures.discovery import skeleton
from workers.engine.architectures.registry import architecture_of
from workers.engine.checkpoints.computable import check_quantiser_settings, refuse_uncomputable
from workers.engine.text.same_tokenizer import refuse_other_tokenizer
from workers.engine.text.tokenizer_loading import load_tokenizer
from workers.stages.benchmark_draft import draft_prompts
from workers.stages.checks.subject import Subject
from workers.stages.fields import DRAFT, TARGET_MODEL, told_at
from workers.stages.original import Original, text_source

SAME_MODEL = "The target is the very model that the draft is cut from, so it is cheaper only by what is cut. "


def look(subject: Subject) -> str | None:
    """Raises InvalidInput (or a child of it) or Unavailable."""
    target = subject.target
    if target is None:
        return None
    config = target.checkpoint.config
    with told_at(TARGET_MODEL):
        architecture = architecture_of(config)
        check_quantiser_settings(config)
        skeleton(as_config(config))
        refuse_uncomputable(config, expected="weights that this worker has kernels for, such as bf16")
        tokenizer = load_tokenizer(target.path)
        rows = int(subject.texts.config.vocab_size), int(as_config(config).vocab_size)
        refuse_other_tokenizer(subject.texts.tokenizer, tokenizer, rows=rows)
    _refuse_too_long(subject, target)
    info = target.info
    padded = "" if rows[0] == rows[1] else f", embeddings of {rows[0]:,} and {rows[1]:,} rows, padded"
    seen = (
        f"{architecture.family}, {info.blocks} blocks, {info.parameters:,} parameters, the same {len(tokenizer):,} "
        f"tokens{padded}"
    )
    told = _outlook(subject, target)
    return seen if told is None else f"{seen}. {told}"


def _refuse_too_long(subject: Subject, target: Original) -> None:
    """Raises InvalidInput: a prompt and its continuation are more than one of the models holds."""
    options = subject.spec.benchmark.draft
    if options is None:
        return
    with told_at({"tokenizer": "/target_model", "text": DRAFT}):
        prompts = draft_prompts(text_source(subject.context, target, subject.machine), subject.config, options)
    bounds = [held for config in (subject.config, target.checkpoint.config) if (held := positions_of(config))]
    room = min(bounds) - prompts.longest - options.tokens if bounds else options.max_new_tokens
    if options.max_new_tokens > room:
        raise InvalidInput.field(
            f"{DRAFT}/max_new_tokens",
            f"a prompt of {prompts.longest:,} tokens, {options.max_new_tokens:,} new ones and {options.tokens} that "
            f"are proposed are more than the {min(bounds):,} that draft and target hold",
            value=options.max_new_tokens,
            expected=f"at most {max(0, room):,}",
        )


def _outlook(subject: Subject, target: Original) -> str | None:
    """What to expect of the draft; told in the job's log too where it is not expected to pay."""
    same = SAME_MODEL if target.info.fingerprint == subject.original.info.fingerprint else ""
    try:
        outlook = outlook_by_configs(subject.spec, subject.config, target.checkpoint.config)
    except InvalidInput:  # which the check of the pruning tells
        return None
    if outlook is None:
        return same.strip() or None
    if not outlook.pays:
        subject.context.log(same + outlook.told, "warning")
    return same + outlook.told
