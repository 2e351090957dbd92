"""Prompts as token ids: through the model's chat template where it has one, since that is how such a model is used.

Where the template cannot be used, be it that it refuses a chat, that its tokens have no row in the embedding or that
what it adds is too long, all prompts are plain text: figures of which some are of chats would not be of one thing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from secateur.contract.errors import InvalidInput
from workers.engine.text.chat_templates import ChatRenderer, Message, TemplateFault
from workers.engine.text.tokenizing import BoundedEncoder, refuse_ids_without_row

Ids = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Prompt:
    """One prompt in both forms."""

    plain: str
    messages: tuple[Message, ...]  # of which the last is the user's

    @classmethod
    def of(cls, text: str) -> Prompt:
        """A text that says it all."""
        return cls(text, ({"role": "user", "content": text},))


@dataclass(frozen=True)
class Prompts:
    """Encoded prompts, all in one form."""

    texts: tuple[str, ...]  # as plain text
    ids: tuple[Ids, ...]  # of each (tokens,), int64
    chat: bool  # whether by the chat template
    fault: str = ""  # why not by the template that the model has

    @property
    def longest(self) -> int:
        """Tokens of the longest one."""
        return max((len(ids) for ids in self.ids), default=0)


def encoded_prompts(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], *, chat: bool, rows: int, room: int | None
) -> Prompts:
    """The prompts for a model.

    Args:
        chat: whether the chat template is used, where there is one.
        rows: of the model's embedding.
        room: tokens that a prompt may have; None for any number. Plain text may have more, which the caller looks at.

    Raises:
        InvalidInput: the tokenizer cannot take a prompt as plain text, or not in a time that its length allows.
    """
    texts = tuple(prompt.plain for prompt in prompts)
    with BoundedEncoder(tokenizer) as encoder:
        fault = ""
        if chat and tokenizer.chat_template:
            try:
                ids = _by_template(encoder, prompts, rows)
                if room is None or max(map(len, ids), default=0) <= room:
                    return Prompts(texts, ids, chat=True)
                fault = f"with what it adds, prompts are longer than the {room:,} tokens that there is room for"
            except (TemplateFault, InvalidInput) as error:
                fault = error.detail if isinstance(error, InvalidInput) else str(error)
        plain = tuple(encoder.ids(text, special=True) for text in texts)
    for ids_of_one in plain:
        refuse_ids_without_row(ids_of_one, tokenizer, rows, where="The prompt")
    return Prompts(texts, plain, chat=False, fault=fault)


def token_counts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[int]:
    """Tokens of each text by itself.

    Raises:
        InvalidInput: as of prompts.
    """
    with BoundedEncoder(tokenizer) as encoder:
        return [len(encoder.ids(text)) for text in texts]


def _by_template(encoder: BoundedEncoder, prompts: Sequence[Prompt], rows: int) -> tuple[Ids, ...]:
    found = []
    with ChatRenderer(encoder.tokenizer) as renderer:
        for prompt in prompts:
            ids = encoder.ids(renderer.render(prompt.messages, prompt=True).text)
            refuse_ids_without_row(ids, encoder.tokenizer, rows, where="The chat template")
            found.append(ids)
    return tuple(found)
