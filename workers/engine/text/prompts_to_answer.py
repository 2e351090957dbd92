"""Which prompts the original answers, where a text is its answers: those that are built in, or a data set's.

The built-in ones were written for this: questions, small sums, rewriting, lists, code, talk, in a few languages. Every
fifth is kept for measuring, so that what is measured on was not trained on. Of a data set no more prompts are read than
the samples can hold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from secateur.contract.datasets import DatasetKind, kind_of, row_error
from secateur.contract.errors import InvalidInput
from secateur.contract.options.texts import AnswersText, Bos, HubText
from secateur.contract.shown import shown
from workers.engine.model.generation import derive_seed
from workers.engine.text.built_in_prompts import BUILT_IN_PROMPTS
from workers.engine.text.chat_templates import ChatRenderer, TemplateFault
from workers.engine.text.prompts import Prompt, encoded_prompts
from workers.engine.text.rows import rows_of
from workers.engine.text.text_source import Purpose, TextSource, Wanted, within_text
from workers.engine.text.tokenizing import BoundedEncoder

KEPT_FOR_MEASURING = 5  # one of so many built-in prompts
SHORT_TURN = 32  # tokens: a prompt with its answer seldom has fewer, which bounds how many a sample can hold
MOST_PROMPTS = 10_000
_WORD = "Yes"  # an answer, to see what the template puts after it


@dataclass(frozen=True)
class PromptsToAnswer:
    """Encoded prompts, in the order in which they are asked."""

    ids: tuple[tuple[int, ...], ...]
    ends: frozenset[int]  # tokens that end an answer, as far as the tokenizer tells
    after: tuple[int, ...]  # what stands between such a token and the next prompt
    description: str
    identity: str
    revision: str | None = None

    @property
    def sha256(self) -> str:
        """Of all that they add to the sampling."""
        return hashlib.sha256(repr((self.ids, sorted(self.ends), self.after)).encode()).hexdigest()


def prompts_to_answer(source: TextSource, text: AnswersText, wanted: Wanted, samples: int) -> PromptsToAnswer:
    """The prompts for so many samples, in an order that the job's seed decides.

    Raises:
        InvalidInput: the prompts cannot be read, or none leaves room for an answer.
        Unavailable: the hub does not answer.
    """
    tokens, bos = wanted.tokens, wanted.bos
    most = min(MOST_PROMPTS, samples * max(1, tokens // SHORT_TURN))
    prompts, description, identity, revision = _found(source, text, wanted.purpose, most)
    rows = int(source.config.vocab_size)
    encoded = encoded_prompts(source.tokenizer, prompts, chat=True, rows=rows, room=None)
    start = source.beginning(text, bos)
    whole = [_begun(ids.tolist(), bos, start.each, source.bos) for ids in encoded.ids]
    fitting = [ids for ids in whole if 0 < len(ids) <= tokens // 2]
    if not fitting:
        raise InvalidInput.field(
            "tokens",
            f"Samples of {tokens:,} tokens have no room for a prompt and as long an answer: the shortest of "
            f"{len(whole):,} prompts ({description}) has {min(map(len, whole)):,} tokens.",
            value=tokens,
            expected=f"at least {2 * min(map(len, whole)):,} tokens, or shorter prompts",
        )
    if len(fitting) < len(whole):
        description += f", without {len(whole) - len(fitting):,} that are too long for samples of {tokens:,} tokens"
    if encoded.fault:
        description += f", as plain text, since the chat template cannot be used ({encoded.fault})"
    seed = derive_seed(source.seed, wanted.purpose, wanted.index)
    order = torch.randperm(len(fitting), generator=torch.Generator().manual_seed(seed)).tolist()
    ends, after = _ending(source.tokenizer) if encoded.chat else ([], [])
    if isinstance(source.tokenizer.eos_token_id, int):
        ends.append(source.tokenizer.eos_token_id)
    chosen = tuple(tuple(fitting[place]) for place in order)
    return PromptsToAnswer(chosen, frozenset(ends), tuple(after), description, identity, revision)


def built_in(purpose: Purpose) -> list[Prompt]:
    """The built-in prompts; those for measuring are in no training and in no calibration."""
    measured = purpose == "measuring"
    numbered = enumerate(BUILT_IN_PROMPTS, start=1)
    return [_prompt(prompt) for number, prompt in numbered if (number % KEPT_FOR_MEASURING == 0) == measured]


def _found(
    source: TextSource, text: AnswersText, purpose: Purpose, most: int
) -> tuple[list[Prompt], str, str, str | None]:
    """Prompts, and of their source the description, the identity and the revision."""
    if text.prompts is None:
        return built_in(purpose), "built-in prompts", "answers", None
    prompts: list[Prompt] = []
    with within_text("prompts"):
        rows = rows_of(text.prompts, source, lines=True)
        for number, row in rows.read():
            prompts += _of_row(row, number, text.prompts.column if isinstance(text.prompts, HubText) else "text")
            if len(prompts) >= most:
                break
        rows.verify()
        if not prompts:
            raise InvalidInput.field("text", f"There are no prompts in {rows.description}.", expected="at least one")
    return prompts, f"prompts of {rows.description}", rows.identity, rows.revision


def _of_row(row: Any, number: int, column: str) -> Iterator[Prompt]:
    """The prompt of a row; none, where it is blank.

    Raises:
        InvalidInput: the row holds none.
    """
    if isinstance(row, Mapping) and isinstance(row.get(column), str):
        row = {"text": row[column]}
    kind = kind_of(row) if isinstance(row, Mapping) else None
    found = row_error(row, kind)
    if found is not None:
        detail = f"Row {number} of the prompts {found.detail}."
        raise InvalidInput.field("text", detail, value=shown(found.value), expected=found.expected)
    match kind:
        case DatasetKind.CHAT:
            messages = list(row["messages"])
            while messages and messages[-1]["role"] == "assistant":
                messages.pop()
            if messages:
                yield Prompt(_plain("\n\n".join(message["content"] for message in messages)), tuple(messages))
        case DatasetKind.ALPACA:
            yield _prompt("\n\n".join(part for part in (row["instruction"], row.get("input")) if part))
        case _:
            if row["text"].strip():
                yield _prompt(row["text"])


def _prompt(said: str) -> Prompt:
    return Prompt(_plain(said), ({"role": "user", "content": said},))


def _plain(said: str) -> str:
    """For a model without a chat template: what follows on the next line is the answer."""
    return said + "\n"


def _begun(ids: list[int], asked: Bos, each: int | None, token: object) -> list[int]:
    """A prompt with a beginning-of-text token or without, where that is asked for."""
    if each is not None and ids[:1] != [each]:
        return [each, *ids]
    return ids[1:] if asked == "none" and ids[:1] == [token] else ids


def _ending(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The special token with which the chat template ends an answer, and what it writes after that."""
    chat: Sequence[Mapping[str, Any]] = (
        {"role": "user", "content": "Is that right?"},
        {"role": "assistant", "content": _WORD},
    )
    with BoundedEncoder(tokenizer) as encoder, ChatRenderer(encoder.tokenizer) as renderer:
        try:
            written = renderer.render(chat).text
        except TemplateFault:
            return [], []
        ids: list[int] = encoder.ids(written[written.rfind(_WORD) + len(_WORD) :].lstrip()).tolist()
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    return (ids[:1], ids[1:]) if ids and ids[0] in special else ([], [])
