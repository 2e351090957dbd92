"""Templates of task definitions, rendered where they can do no harm.

The harness renders them with a plain Jinja environment, in which a template reaches Python's modules through the
attributes of any object. Here they run in Jinja's immutable sandbox. What the sandbox leaves open is how much a
template makes (`"x" * 10**10`, loops in loops, a pattern that backtracks for ever), so each rendering has so many
seconds, so much memory and so many characters.
"""

from __future__ import annotations

import re
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

from jinja2 import StrictUndefined, Template, TemplateRuntimeError
from jinja2.filters import do_round
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from secateur.contract.numbers import size

MOST_CHARACTERS = 1_000_000  # of one rendering; a long prompt has some tens of thousands
MOST_SECONDS = 2.0
MOST_BITS = 4096  # of a whole number that is multiplied or divided
MOST_BYTES = 256 * 2**20  # of memory on top of what the process has


class _Template(Template):
    def render(self, *args: Any, **kwargs: Any) -> str:
        parts, length = [], 0
        with bounded():
            for part in self.generate(*args, **kwargs):
                length += len(part)
                if length > MOST_CHARACTERS:
                    raise TemplateRuntimeError(f"it makes more than {MOST_CHARACTERS:,} characters")
                parts.append(part)
        return "".join(parts)


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment in which the harness's templates are compiled and rendered."""

    template_class = _Template
    intercepted_binops = frozenset({"*", "**", "//", "%"})  # of whole numbers they can take hours that nothing stops

    def __init__(self) -> None:
        from lm_eval.utils import regex_replace  # type: ignore[import-untyped]  # ships no annotations

        super().__init__(undefined=StrictUndefined, keep_trailing_newline=True)  # as the harness has it
        self.filters["regex_replace"] = regex_replace
        self.filters["round"] = _round

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        bits = [number.bit_length() for number in (left, right) if isinstance(number, int)]
        if operator == "**" and len(bits) == 2:
            bits.append(bits[0] * abs(right))  # of the result
        if max(bits, default=0) > MOST_BITS:
            raise TemplateRuntimeError("it computes with numbers that are too large")
        return super().call_binop(context, operator, left, right)

    def from_string(self, *args: Any, **kwargs: Any) -> Template:
        with bounded():  # constants are computed while a template is compiled
            return super().from_string(*args, **kwargs)


def _round(value: float, precision: int = 0, method: Literal["common", "ceil", "floor"] = "common") -> float:
    """Jinja's `round`, which computes 10 ** precision."""
    if not -300 <= precision <= 300:
        raise TemplateRuntimeError("it rounds to more digits than numbers have")
    return do_round(value, precision, method)


class _BoundedPattern:
    """A regular expression of a task, each use of which has so many seconds."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern

    def __getattr__(self, name: str) -> Any:
        return _in_time(getattr(self._pattern, name))


class _BoundedRe:
    """In the place of the module `re`, where the harness reads answers off by patterns of a definition."""

    def __getattr__(self, name: str) -> Any:
        if name == "compile":
            return lambda *given, **more: _BoundedPattern(re.compile(*given, **more))
        return _in_time(getattr(re, name))


def _in_time(found: Any) -> Any:
    if not callable(found) or isinstance(found, type):
        return found

    def bounded_call(*given: Any, **more: Any) -> Any:
        given = tuple(each._pattern if isinstance(each, _BoundedPattern) else each for each in given)
        if threading.current_thread() is not threading.main_thread():
            return found(*given, **more)
        with _little_time("a regular expression"):
            return found(*given, **more)

    return bounded_call


def use_sandbox() -> None:
    """Let the harness render every template in the sandbox, its own tasks' too, and match no pattern for ever."""
    from lm_eval import utils  # type: ignore[import-untyped]  # ships no annotations
    from lm_eval.api import metrics  # type: ignore[import-untyped]
    from lm_eval.filters import extraction  # type: ignore[import-untyped]

    if not isinstance(utils.env, Sandbox):
        utils.env = Sandbox()
    for module in (metrics, extraction):
        module.re = _BoundedRe()


@contextmanager
def bounded() -> Iterator[None]:
    """Bound the time and the memory of what runs within; time in the main thread only, memory on Linux only.

    Raises:
        TemplateRuntimeError: in place of what runs over.
    """
    try:
        with ExitStack() as bounds:
            if sys.platform == "linux":
                bounds.enter_context(_little_memory())
            if threading.current_thread() is threading.main_thread():
                bounds.enter_context(_little_time())
            yield
    except MemoryError:
        raise TemplateRuntimeError(f"it takes more than {size(MOST_BYTES)} of memory") from None
    except RecursionError:
        raise TemplateRuntimeError("it is nested too deeply") from None


@contextmanager
def _little_memory() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = [limit for limit in (soft, hard, used + MOST_BYTES) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(limits), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def _little_time(what: str = "it") -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TemplateRuntimeError(f"{what} takes longer than {MOST_SECONDS:.0f} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    # again and again: where the first alarm meets a callback of the garbage collector, its exception is lost
    signal.setitimer(signal.ITIMER_REAL, MOST_SECONDS, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
