"""Chats as training examples: written once by the model's own template, with what the assistant says found in them.

A template may write a turn otherwise when others follow it: many leave out earlier thoughts, or mark the last answer.
So a chat is not put together from the renderings of its beginnings. It is rendered whole, as `apply_chat_template` does
it, and tokenised whole. Where its answers stand is known from `{% generation %}` where the template has that; otherwise
the chat is rendered once more with a mark around what each message says, which shows where the template puts it. An
answer begins where the template's prompt for one ends, and ends with what the template puts after it.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from secateur.contract.datasets import DatasetKind
from secateur.contract.options.texts import Bos
from workers.engine.recovery.example import Example, check_row
from workers.engine.text.chat_templates import ChatRenderer, Message, TemplateFault
from workers.engine.text.tokenizing import BoundedEncoder

ASSISTANT = "assistant"
THOUGHT_ENDS = "</think>"  # templates leave out what stands before
_MARKS = 0xF0000  # private characters from here on: two for each message
_MOST_MARKED = 30_000  # messages; there are two planes of such characters, and one is enough
_MARK = re.compile(f"[{chr(_MARKS)}-{chr(_MARKS + 2 * _MOST_MARKED - 1)}]")

Span = tuple[int, int]


class Chats:
    """Encodes rows of `messages`; encoder and renderer are the caller's to close."""

    def __init__(
        self,
        encoder: BoundedEncoder,
        renderer: ChatRenderer,
        *,
        asked: Bos = "auto",
        bos: int = -1,
    ) -> None:
        """`asked` is where the token `bos` is to stand: before each chat, or nowhere; else as the template has it."""
        self._encoder, self._tokenizer, self._renderer = encoder, encoder.tokenizer, renderer
        self._asked, self._bos = asked, bos
        self._prompt: str | None = None  # what begins an answer, once a chat has shown it
        self.roles: set[str] = set()  # seen so far

    def __call__(self, row: Any) -> Example:
        """The tokens of one chat, and which of them are the assistant's.

        Raises:
            ValueError: the row is no chat, or the template refuses it or leaves an answer out.
            InvalidInput: the template or the tokenizer cannot be used at all.
        """
        check_row(row, DatasetKind.CHAT)
        messages: list[Message] = row["messages"]
        self.roles |= {message["role"] for message in messages}
        rendered = self._renderer.render(messages)
        spans = list(rendered.answers)
        if not spans and any(message["role"] == ASSISTANT for message in messages):
            spans = self._answers(messages, rendered.text)
        return self._begun(self._encoded(rendered.text, spans))

    def _begun(self, example: Example) -> Example:
        has = example.ids[:1] == [self._bos if self._asked == "each" else self._tokenizer.bos_token_id]
        if self._asked == "each" and not has:
            return Example([self._bos, *example.ids], [False, *example.answer])
        if self._asked == "none" and has:
            return Example(example.ids[1:], example.answer[1:])
        return example

    def _encoded(self, text: str, spans: Sequence[Span]) -> Example:
        if self._tokenizer.is_fast:
            found = self._encoder.ids_and_offsets(text).tolist()
            return Example([token for token, _, _ in found], _met([(start, end) for _, start, end in found], spans))
        ids: list[int] = []  # without offsets it is cut where answers begin and end
        answer: list[bool] = []
        at = 0
        for start, end in [*spans, (len(text), len(text))]:
            for piece, is_answer in ((text[at:start], False), (text[start:end], True)):
                new = self._encoder.ids(piece).tolist() if piece else []
                ids += new
                answer += [is_answer] * len(new)
            at = end
        return Example(ids, answer)

    def _answers(self, messages: Sequence[Message], text: str) -> list[Span]:
        places = self._places(messages, text)
        prompt = self._prompt_before(messages)
        ending = self._ending(messages, text, places)
        following = _least_after(places, len(text))
        spans, before = [], 0
        for number, (message, place) in enumerate(zip(messages, places, strict=True)):
            if message["role"] != ASSISTANT:
                if place is None and message["role"] not in _KNOWN and message["content"].strip():
                    raise ValueError(
                        f'the chat template leaves out message {number + 1}, whose role is "{message["role"]}"'
                    )
                before = max(before, place[1]) if place is not None else before
                continue
            if place is None:
                raise ValueError(f"the chat template leaves out what the assistant says in message {number + 1}")
            start, end = place
            asked = text.rfind(prompt, before, start) if prompt else -1
            after = following[number]
            if after < end:  # what was said later is written before
                later = (other[0] for other in places[number + 1 :] if other and other[0] >= end)
                after = min(later, default=len(text))
            trail = message["content"][len(message["content"].rstrip()) :]  # which many templates trim
            ended, ended_after = (_in_common(text[at:after], ending) for at in (end, end + len(trail)))
            if text.startswith(trail, end) and ended_after >= ended:
                end, ended = end + len(trail), ended_after
            end += ended
            spans.append((asked + len(prompt) if asked >= 0 else start, end))
            before = end
        return spans

    def _places(self, messages: Sequence[Message], text: str) -> list[Span | None]:
        """Where the template puts what each message says."""
        marked = self._marked(messages)
        if marked is not None:
            without, marks = _taken_apart(marked)
            if without == text:
                return [_marked_place(text, marks, number, message) for number, message in enumerate(messages)]
        return self._searched(messages, text)

    def _marked(self, messages: Sequence[Message]) -> str | None:
        """The chat with two marks around what each message says; None where that cannot be told apart."""
        if len(messages) > _MOST_MARKED or any(_has_marks(message["content"]) for message in messages):
            return None
        changed = []
        for number, message in enumerate(messages):
            content: str = message["content"]
            said = content.strip()
            lead = content[: len(content) - len(content.lstrip())] if said else ""
            trail = content[len(lead) + len(said) :] if said else content
            changed.append({**message, "content": f"{lead}{_mark(number)}{said}{_mark(number, end=True)}{trail}"})
        try:
            return self._renderer.render(changed).text
        except TemplateFault:  # one that looks into what is said
            return None

    def _searched(self, messages: Sequence[Message], text: str) -> list[Span | None]:
        """As `_places`, by looking for each message's words after those of the message before."""
        prompt = self._prompt_before(messages)
        places: list[Span | None] = []
        at = 0
        for message in messages:
            begin = at
            if message["role"] == ASSISTANT and prompt and (asked := text.find(prompt, at)) >= 0:
                begin = asked + len(prompt)
            place = None
            for said in (message["content"].strip(), message["content"].split(THOUGHT_ENDS)[-1].strip()):
                found = text.find(said, begin)
                if found >= 0:
                    place = (found, found + len(said))
                    at = place[1]
                    break
            places.append(place)
        return places

    def _prompt_before(self, messages: Sequence[Message]) -> str:
        """What the template writes for an answer to begin; of the first chat that shows it, for all."""
        if self._prompt is None:
            first = next(number for number, message in enumerate(messages) if message["role"] == ASSISTANT)
            if first == 0:
                return ""
            try:
                with_it = self._renderer.render(messages[:first], prompt=True).text
                without = self._renderer.render(messages[:first]).text
            except TemplateFault:
                return ""
            self._prompt = with_it[len(without) :] if with_it.startswith(without) else ""
        return self._prompt

    def _ending(self, messages: Sequence[Message], text: str, places: Sequence[Span | None]) -> str:
        """What the template writes after an answer that is the last message."""
        last = max(number for number, message in enumerate(messages) if message["role"] == ASSISTANT)
        place, said = places[last], messages[last]["content"]
        if last < len(messages) - 1 or said != said.rstrip():
            upto = [*messages[:last], {**messages[last], "content": said.rstrip()}]
            try:
                text = self._renderer.render(upto).text
                place = self._places(upto, text)[last]
            except TemplateFault:
                return ""
        return "" if place is None else text[place[1] :]


_KNOWN = frozenset({"system", "developer", "user", ASSISTANT, "tool"})  # roles that a template may well leave out


def _mark(number: int, *, end: bool = False) -> str:
    return chr(_MARKS + 2 * number + end)


def _has_marks(text: str) -> bool:
    return not text.isascii() and _MARK.search(text) is not None


_Marks = Mapping[str, list[tuple[int, int]]]  # of each mark, where it stands among all marks, and in the text without


def _taken_apart(marked: str) -> tuple[str, _Marks]:
    """A text without its marks, and where they stood; in one pass, since a chat may have thousands of messages."""
    marks: dict[str, list[tuple[int, int]]] = {}
    parts, at, length = [], 0, 0
    for order, found in enumerate(_MARK.finditer(marked)):
        parts.append(marked[at : found.start()])
        length += len(parts[-1])
        marks.setdefault(found.group(), []).append((order, length))
        at = found.end()
    return "".join([*parts, marked[at:]]), marks


def _marked_place(text: str, marks: _Marks, number: int, message: Message) -> Span | None:
    """Where the words of a message stand in the text without marks; the last place, where the template repeats them."""
    ends = marks.get(_mark(number, end=True))
    if ends is None:
        return None
    content = message["content"]
    said = content.strip()
    order, end = ends[-1]
    begins = [place for before, place in marks.get(_mark(number), ()) if before < order]
    if begins:
        start = begins[-1]
        lead = content[: len(content) - len(content.lstrip())] if said else ""
        start -= len(lead) * text.endswith(lead, 0, start)  # unless the template trims it
    else:  # the template cut their beginning off, most likely up to where a thought ends
        left = said.split(THOUGHT_ENDS)[-1].strip()
        if left == said:
            start = end - _in_common(text[max(0, end - len(said)) : end][::-1], said[::-1])
        else:
            start = end - len(left) * text.endswith(left, 0, end)
    return start, end


def _least_after(places: Sequence[Span | None], least: int) -> list[int]:
    """For each message, where the first of those after it begins; `least` for the last one.

    >>> _least_after([(0, 1), None, (2, 3)], 9)
    [2, 2, 9]
    """
    found = []
    for place in reversed(places):
        found.append(least)
        least = least if place is None else min(least, place[0])
    return found[::-1]


def _met(offsets: Sequence[Span], spans: Sequence[Span]) -> list[bool]:
    """Which of the offsets share a character with one of the spans.

    >>> _met([(0, 2), (2, 4), (4, 4), (4, 9)], [(3, 5), (8, 9)])
    [False, True, True, True]
    """
    ordered = sorted(spans)
    starts = [start for start, _ in ordered]
    ends = list(accumulate((end for _, end in ordered), max))
    return [(before := bisect_left(starts, end)) > 0 and ends[before - 1] > start for start, end in offsets]


def _in_common(text: str, other: str) -> int:
    """How many characters two texts begin alike with.

    >>> _in_common("</s><user>", "</s>")
    4
    """
    pairs = zip(text, other, strict=False)
    return next((number for number, (a, b) in enumerate(pairs) if a != b), min(len(text), len(other)))
