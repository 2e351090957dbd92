"""Rendering a model's chat template, which is a program of whoever made the model.

transformers runs it in Jinja's immutable sandbox: it reaches no attribute that begins with an underscore, calls nothing
that is unsafe and changes nothing that it is given. The sandbox bounds neither time nor memory: two loops of 100,000
turns, or ten characters repeated a milliard times, are allowed. So templates are rendered in a process of their own,
which has little memory, and which is ended where it takes too long. It is a fork of this one: it has all that it needs
in memory and starts in no time.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, NoReturn, Self, cast

from jinja2 import TemplateSyntaxError
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from app.errors import InvalidInput
from app.shown import shown
from workers.engine.blame import words_of

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
            "/recovery/format",
            "The model has no chat template, so chats cannot be written as it knows them.",
            value="chat",
            expected='"alpaca" or "text", or a model with a chat template',
        )
    if not isinstance(found, str) or len(found) > MAX_TEMPLATE:
        raise _of_model("The model's chat template is no text, or is longer than a million characters.", value=None)
    return found


class ChatRenderer:
    """Renders chats of one model; to be closed. One chat at a time."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Raises InvalidInput: the model has no chat template."""
        self._template = chat_template_of(tokenizer)
        self._special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
        self._pid: int | None = None
        self._pipe: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def render(self, messages: Sequence[Message], *, prompt: bool = False) -> Rendered:
        """The chat in the template's words.

        Args:
            prompt: whether what begins an answer follows.

        Raises:
            TemplateFault: the template refuses the chat, or breaks on it.
            InvalidInput: the template is no template, or takes more time, memory or text than any chat needs.
        """
        asked = [{name: value for name, value in message.items() if value is not None} for message in messages]
        if self._pipe is None:
            self._start()
        assert self._pipe is not None, "it was started just now"
        answer: dict[str, Any] = {"fault": "memory"}  # of a process that ended without a word
        try:
            self._pipe.send_bytes(json.dumps([asked, prompt], default=str).encode())
            answer = json.loads(self._pipe.recv_bytes()) if self._pipe.poll(RENDER_SECONDS) else {"fault": "time"}
        except (EOFError, OSError):
            pass
        if "text" in answer:
            return Rendered(answer["text"], tuple((start, end) for start, end in answer["answers"]))
        if answer["fault"] in ("memory", "time"):
            self._end()
        raise _fault(answer)

    def _start(self) -> None:
        ours, theirs = Pipe()
        pid = os.fork()
        if pid == 0:
            ours.close()
            _serve(theirs, self._template, self._special)
        theirs.close()
        self._pid, self._pipe = pid, ours

    def _end(self) -> None:
        if self._pid is not None:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        if self._pipe is not None:
            self._pipe.close()
        self._pid = self._pipe = None


def _fault(answer: Mapping[str, Any]) -> Exception:
    match answer["fault"]:
        case "syntax":
            detail = f"The model's chat template is no Jinja template: {answer['words']}"
            return _of_model(detail, value=answer["words"])
        case "time":
            return _of_model(f"The model's chat template took more than {RENDER_SECONDS:g} s for one chat.", value=None)
        case "memory":
            return _of_model("The model's chat template took more memory than any chat needs.", value=None)
        case "length":
            return _of_model(f"The model's chat template wrote more than {MAX_TEXT:,} characters.", value=None)
    return TemplateFault(f"the model's chat template says: {answer['words']}")


def _of_model(detail: str, *, value: Any) -> InvalidInput:
    expected = "a model whose chat template writes chats, or training data in another format than chat"
    return InvalidInput.field("/model", detail, value=shown(value), expected=expected)


def _serve(pipe: Connection, template: str, special: Mapping[str, str]) -> NoReturn:
    """The process that renders, from its fork to its end."""
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _limit_memory()
        tracked = _GENERATION.search(template) is not None
        while True:
            pipe.send_bytes(json.dumps(_rendered(pipe.recv_bytes(), template, special, tracked=tracked)).encode())
    except BaseException:
        os._exit(1)  # nobody asks any more, or there was no memory to answer
    os._exit(0)


def _rendered(asked: bytes, template: str, special: Mapping[str, str], *, tracked: bool) -> dict[str, Any]:
    messages, prompt = json.loads(asked)
    given: dict[str, Any] = {"add_generation_prompt": prompt, "return_assistant_tokens_mask": tracked, **special}
    answers: list[list[tuple[int, int]]]
    try:
        texts, answers = cast(Any, render_jinja_template)([messages], chat_template=template, **given)
    except MemoryError:
        return {"fault": "memory"}
    except TemplateSyntaxError as error:
        return {"fault": "syntax", "words": f"line {error.lineno}: {words_of(error)}"}
    except RecursionError:
        return {"fault": "words", "words": "it calls itself without end"}
    except Exception as error:  # a template can raise whatever Python can
        return {"fault": "words", "words": words_of(error)}
    if len(texts[0]) > MAX_TEXT:
        return {"fault": "length"}
    return {"text": texts[0], "answers": answers[0] if answers else []}


def _limit_memory() -> None:
    """Let this process have so much more address space than it has been born with."""
    try:
        with open("/proc/self/statm") as file:  # noqa: PTH123 - one line of the kernel's
            born = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (born + MEMORY_BYTES, born + MEMORY_BYTES))
    except (OSError, ValueError):  # no such file outside Linux
        return
