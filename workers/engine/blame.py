"""Whose fault it is: a library's error over something that a user gave, told as the argument that holds it.

A library knows nothing of the spec. It raises what it likes over a config, a tokenizer, a template or a task, and the
words are often good; what they lack is where to mend. Code that hands a user's input to a library does so under
`blamed_on`, which adds that. What is no verdict on the input goes through as it is: our own errors, memory that is
short, a disk that is full, a host that does not answer.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from secateur.contract.errors import InvalidInput, ServiceError
from secateur.contract.shown import LINE_CHARACTERS, printable, shortened

_OF_THE_MACHINE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO})


@contextmanager
def blamed_on(
    argument: str, what: str, *, value: Any = None, expected: str, kind: type[InvalidInput] = InvalidInput
) -> Iterator[None]:
    """Run a library on something that a user gave.

    Args:
        argument: the name of what is to blame; or, of a stage, the JSON pointer of the spec's field.
        what: what cannot be done, as the start of a sentence: "The tokenizer cannot be loaded".
        value: what the field holds.
        expected: what would be right.

    Raises:
        InvalidInput: of the given kind, for whatever the library raises over the input.
    """
    try:
        yield
    except BaseException as error:
        if not is_over_input(error):
            raise
        raise kind.field(argument, f"{what}: {words_of(error)}", value=value, expected=expected) from error


def is_over_input(error: BaseException) -> bool:
    """Whether it is a library's error that says something of the input.

    A panic of a library in Rust (tokenizers, safetensors) is no `Exception`, and as good as one.
    """
    if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
        return False
    return not isinstance(error, ServiceError) and not is_of_the_machine(error)


def is_of_the_machine(error: BaseException) -> bool:
    """Whether an error says something of this machine and nothing of the input: memory, disk, network."""
    if isinstance(error, MemoryError | ConnectionError | TimeoutError):
        return True
    if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
        return True
    name, text = type(error).__name__, str(error)
    return name == "OutOfMemoryError" or "not enough memory" in text or "CUDA error" in text


def words_of(error: BaseException) -> str:
    """A library's message as part of a sentence: its kind where it is no sentence by itself, in one printable line."""
    text = printable(" ".join(str(error).split()))
    if isinstance(error, KeyError | IndexError | AttributeError | TypeError | RecursionError) or not text:
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return shortened(text, LINE_CHARACTERS)
