"""Check of the tokenizer, where the job reads or writes text with it."""

from __future__ import annotations

from secateur.contract.options.texts import HubText, LocalText, NamedText, UploadText
from secateur.contract.texts import texts_of
from workers.engine.text.chat_templates import template_place
from workers.stages.checks.subject import Subject

_GIVEN = (HubText, LocalText, NamedText, UploadText)


def look(subject: Subject) -> str | None:
    """Raises InvalidInput."""
    spec = subject.spec
    reads = any(True for kind in _GIVEN for _ in texts_of(spec, kind))
    measured = spec.benchmark
    if not reads and measured.tasks is None and measured.samples is None:
        return None
    tokenizer = subject.texts.tokenizer
    written = f", chats by {template_place(tokenizer)}" if tokenizer.chat_template else ", no chat template"
    return f"{len(tokenizer):,} tokens{written}"
