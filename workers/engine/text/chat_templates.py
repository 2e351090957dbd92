"""Rendering a model's chat template, which is a program of whoever made the model.

transformers runs it in Jinja's immutable sandbox: it reaches no attribute that begins with an underscore, calls nothing
that is unsafe and changes nothing that it is given. The sandbox bounds neither time nor memory: two loops of 100,000
turns, or ten characters repeated a milliard times, are allowed. So templates are rendered in a process of their own
(`bounded_child.py`), which has little memory, and which is ended where it takes too long.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self, cast

from jinja2 import TemplateSyntaxError
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from secateur.contract.datasets import SURROGATE
from secateur.contract.errors import InvalidInput
from secateur.contract.shown import shown
from workers.engine.blame import words_of
from workers.engine.bounded_child import BoundedChild, ChildEnded, OutOfMemory, OutOfTime

RENDER_SECONDS = 20.0  # for one chat; they take milliseconds
MEMORY_BYTES = 512 * 2**20  # beyond what this process has
MAX_TEXT = 32 * 2**20  # characters of a rendered chat
MAX_TEMPLATE = 1 << 20  # characters; a long one has some tens of thousands
_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")

Message = Mapping[str, Any]


class TemplateFault(ValueError):
    """The template refuses a chat, in its own words, or breaks on it."""


@dataclass(frozen=True)
class Rendered:
    """A chat as the template writes it."""

    text: str
    answers: tuple[tuple[int, int], ...]  # where `{% generation %}` stood; empty where the template has none


def template_place(tokenizer: PreTrainedTokenizerBase) -> str:
    """The file that holds the model's chat template, with the entry where it has others."""
    alone = "chat_template.jinja"
    return alone if (Path(tokenizer.name_or_path) / alone).is_file() else "`chat_template` of tokenizer_config.json"


def chat_template_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """The template with which chats are written: the model's only one, or of several that which is called `default`.

    Raises:
        InvalidInput: it has none, or several and none of that name.
    """
    found = tokenizer.chat_template
    if isinstance(found, Mapping):
        names = sorted(found)
        if "default" not in found:
            raise _of_model(
                f"The model has several chat templates and none that is called default ({', '.join(names)}).",
                value=names,
            )
        found = found["default"]
    if not found:
        raise InvalidInput.field(
            "format",
            "The model has no chat template, so chats cannot be written as it knows them.",
            value="chat",
            expected='"alpaca" or "text", or a model with a chat template',
        )
    if not isinstance(found, str) or len(found) > MAX_TEMPLATE:
        place = template_place(tokenizer)
        detail = f"The model's chat template ({place}) is no text, or is longer than a million characters."
        raise _of_model(detail, value=found)
    return found


class ChatRenderer:
    """Renders chats of one model; to be closed. One chat at a time."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Raises InvalidInput: the model has no chat template."""
        template = chat_template_of(tokenizer)
        self._name = f"chat template ({template_place(tokenizer)})"
        special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
        tracked = _GENERATION.search(template) is not None
        answer = partial(_answered, template=template, special=special, tracked=tracked)
        self._child = BoundedChild(answer, memory=MEMORY_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.close()

    def render(self, messages: Sequence[Message], *, prompt: bool = False) -> Rendered:
        """The chat in the template's words.

        Args:
            prompt: whether what begins an answer follows.

        Raises:
            TemplateFault: the template refuses the chat, or breaks on it.
            InvalidInput: the template is no template, or takes more time, memory or text than any chat needs.
        """
        asked = [{name: value for name, value in message.items() if value is not None} for message in messages]
        question = json.dumps([asked, prompt], default=str).encode()
        try:
            answer: dict[str, Any] = json.loads(self._child.ask(question, seconds=RENDER_SECONDS))
        except OutOfTime:
            detail = f"The model's {self._name} took more than {RENDER_SECONDS:g} s for one chat."
            raise _of_model(detail, value=None) from None
        except OutOfMemory:
            detail = f"The model's {self._name} took more memory than any chat needs."
            raise _of_model(detail, value=None) from None
        except ChildEnded as error:
            raise _of_model(f"The process that renders the model's {self._name} {error}.", value=None) from None
        if "text" in answer:
            return Rendered(answer["text"], tuple((start, end) for start, end in answer["answers"]))
        raise _fault(answer, self._name)


def _fault(answer: Mapping[str, Any], name: str) -> Exception:
    match answer["fault"]:
        case "syntax":
            detail = f"The model's {name} is no Jinja template: {answer['words']}"
            return _of_model(detail, value=answer["words"])
        case "length":
            return _of_model(f"The model's {name} wrote more than {MAX_TEXT:,} characters.", value=None)
        case "character":
            detail = f"The model's {name} writes half of a surrogate pair, which is no character."
            return _of_model(detail, value=answer["words"])
    return TemplateFault(f"the model's {name} says: {answer['words']}")


def _of_model(detail: str, *, value: Any) -> InvalidInput:
    expected = "a model whose chat template writes chats, or training data in another format than chat"
    return InvalidInput.field("model", detail, value=shown(value), expected=expected)


def _answered(asked: bytes, *, template: str, special: Mapping[str, str], tracked: bool) -> bytes:
    """In the process that renders."""
    return json.dumps(_rendered(asked, template, special, tracked=tracked)).encode()


def _rendered(asked: bytes, template: str, special: Mapping[str, str], *, tracked: bool) -> dict[str, Any]:
    messages, prompt = json.loads(asked)
    given: dict[str, Any] = {"add_generation_prompt": prompt, "return_assistant_tokens_mask": tracked, **special}
    answers: list[list[tuple[int, int]]]
    try:
        texts, answers = cast(Any, render_jinja_template)([messages], chat_template=template, **given)
    except MemoryError:
        raise
    except TemplateSyntaxError as error:
        return {"fault": "syntax", "words": f"line {error.lineno}: {words_of(error)}"}
    except RecursionError:
        return {"fault": "words", "words": "it calls itself without end"}
    except Exception as error:  # a template can raise whatever Python can
        return {"fault": "words", "words": words_of(error)}
    if len(texts[0]) > MAX_TEXT:
        return {"fault": "length"}
    if found := SURROGATE.search(texts[0]):
        return {"fault": "character", "words": ascii(found.group())}
    return {"text": texts[0], "answers": answers[0] if answers else []}
