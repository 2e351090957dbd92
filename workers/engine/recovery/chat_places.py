"""Where a chat template puts what each message says.

The chat is rendered once more with a mark around the words of each message, which shows where they went. White space
around the words stays outside the marks, so that a template that trims does so; whether it did is seen by a third
rendering, of the words without any. A message with nothing in it gets its marks before or after its white space,
whichever leaves the chat as it was, and none where a template leaves such a turn out. A template that looks into what
is said shows something else: then the words are searched, each after those of the message before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from workers.engine.text.chat_templates import ChatRenderer, Message, TemplateFault

THOUGHT_ENDS = "</think>"  # templates leave out what stands before
_MARKS = 0xF0000  # private characters from here on: two for each message
_MOST_MARKED = 30_000  # messages; there are two planes of such characters, and one is enough
_MARK = re.compile(f"([{chr(_MARKS)}-{chr(_MARKS + 2 * _MOST_MARKED - 1)}])")

Span = tuple[int, int]
Blank = Literal["first", "last", "none"]  # where a message without words has its marks


@dataclass(frozen=True)
class _Said:
    """A message's words, and the white space around them."""

    lead: str
    words: str
    trail: str


def marked_places(renderer: ChatRenderer, messages: Sequence[Message], text: str) -> list[Span | None] | None:
    """The place of each message in its chat's `text`, with the white space of it that the template kept.

    None for a message that is not in it, or that has no words and cannot be marked; and for all if none can.
    """
    if len(messages) > _MOST_MARKED or any(_MARK.search(message["content"]) for message in messages):
        return None
    blanks: tuple[Blank, ...] = ("first", "last", "none")
    if all(message["content"].strip() for message in messages):
        blanks = ("first",)
    for blank in blanks:
        parts = [_parts(message["content"], blank) for message in messages]
        marked = _rendered(renderer, messages, parts)
        if marked is None or _MARK.sub("", marked) != text:
            continue
        bare = marked
        if any(part is not None and (part.lead or part.trail) for part in parts):
            stripped = [None if part is None else _Said("", part.words, "") for part in parts]
            bare = _rendered(renderer, messages, stripped) or marked
        kept = _kept(marked, bare, parts)
        return [None if part is None else _place(marked, text, number, part, kept) for number, part in enumerate(parts)]
    return None


def searched_places(
    messages: Sequence[Message], text: str, *, answers: Sequence[bool], prompt: str
) -> list[Span | None]:
    """As `marked_places`, by looking for the words, which may stand elsewhere too; white space is left out.

    Args:
        answers: which messages are the assistant's, and so stand behind `prompt`.
    """
    places: list[Span | None] = []
    at = 0
    for message, is_answer in zip(messages, answers, strict=True):
        begin = at
        if is_answer and prompt and (asked := text.find(prompt, at)) >= 0:
            begin = asked + len(prompt)
        place = None
        for said in (message["content"].strip(), message["content"].split(THOUGHT_ENDS)[-1].strip()):
            found = text.find(said, begin)
            if said and found >= 0:
                place = (found, found + len(said))
                at = place[1]
                break
        places.append(place)
    return places


def _parts(content: str, blank: Blank) -> _Said | None:
    words = content.strip()
    if not words:
        return {"first": _Said("", "", content), "last": _Said(content, "", ""), "none": None}[blank]
    start = len(content) - len(content.lstrip())
    return _Said(content[:start], words, content[start + len(words) :])


def _rendered(renderer: ChatRenderer, messages: Sequence[Message], parts: Sequence[_Said | None]) -> str | None:
    """The chat with marks; None where the template breaks on them."""
    changed = [
        message
        if part is None
        else {**message, "content": f"{part.lead}{_mark(n)}{part.words}{_mark(n, end=True)}{part.trail}"}
        for n, (message, part) in enumerate(zip(messages, parts, strict=True))
    ]
    try:
        return renderer.render(changed).text
    except TemplateFault:  # one that looks into what is said
        return None


def _kept(marked: str, bare: str, parts: Sequence[_Said | None]) -> Mapping[str, bool]:
    """By mark, whether the white space on its outer side is in the chat: seen by what is between two marks."""
    with_it, without = _MARK.split(marked), _MARK.split(bare)
    if with_it[1::2] != without[1::2]:
        return {}
    around: dict[str, str] = {}
    for number, part in enumerate(parts):
        if part is not None:
            around |= {_mark(number): part.lead, _mark(number, end=True): part.trail}
    kept: dict[str, bool] = {}
    for at in range(0, len(with_it), 2):
        left, right = (with_it[at - 1] if at else ""), (with_it[at + 1] if at + 1 < len(with_it) else "")
        trail = around[left] if left and _is_end(left) else ""
        lead = around[right] if right and not _is_end(right) else ""
        for has_trail, has_lead in ((True, True), (False, False), (True, False), (False, True)):
            if trail * has_trail + without[at] + lead * has_lead == with_it[at]:
                kept |= {left: has_trail} if trail else {}
                kept |= {right: has_lead} if lead else {}
                break
    return kept


def _place(marked: str, text: str, number: int, part: _Said, kept: Mapping[str, bool]) -> Span | None:
    """Where a message stands in the text without marks; the last place, where the template repeats it."""
    ends = marked.rfind(_mark(number, end=True))
    if ends < 0:
        return None
    end = ends - _count(marked, ends)
    begins = marked.rfind(_mark(number), 0, ends)
    if begins >= 0:
        start = begins - _count(marked, begins) - len(part.lead) * kept.get(_mark(number), False)
    else:  # the template cut the words' beginning off, most likely up to where a thought ends
        words = part.words
        left = words.split(THOUGHT_ENDS)[-1].strip()
        start = end - len(left) * text.endswith(left, 0, end)
        while left == words and start > 0 and text[start - 1 : end] == words[len(words) - (end - start) - 1 :]:
            start -= 1
    return start, end + len(part.trail) * kept.get(_mark(number, end=True), False)


def _count(marked: str, stop: int) -> int:
    return len(_MARK.findall(marked, 0, stop))


def _mark(number: int, *, end: bool = False) -> str:
    return chr(_MARKS + 2 * number + end)


def _is_end(mark: str) -> bool:
    return (ord(mark) - _MARKS) % 2 == 1
