"""How many steps a training takes, and how many of them are warm-up: for its options, its schedule and their check."""

from __future__ import annotations

import math
from typing import Protocol

from secateur.contract.errors import InvalidInput

GENERATED_SAMPLES = 512  # of self-generated training text, where the spec names no number
WARMUP_SHARE = 10  # one of so many steps at most is warm-up, unless the spec names a number


class Lengths(Protocol):
    """What of a training's options bounds its steps."""

    @property
    def epochs(self) -> float: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def max_steps(self) -> int | None: ...
    @property
    def max_tokens(self) -> int | None: ...


def total_steps(samples: int, tokens: int, options: Lengths) -> int:
    """Optimizer steps of the whole training: the epochs', or fewer where `max_steps` or `max_tokens` say so."""
    steps = max(1, math.ceil(options.epochs * math.ceil(samples / options.batch_size)))
    return min([steps, *_bounds(tokens, options)])


def most_steps(options: Lengths, *, samples: int | None, tokens: int, validation: float, generated: bool) -> int | None:
    """The most steps that a training can have, as far as its options tell; None: the text's length decides.

    >>> from types import SimpleNamespace
    >>> paper = SimpleNamespace(epochs=2, batch_size=64, max_steps=None, max_tokens=None)
    >>> most_steps(paper, samples=None, tokens=256, validation=0, generated=True)
    16
    """
    if samples is None and generated:
        samples = GENERATED_SAMPLES
    if samples is not None:
        return total_steps(samples - held_out(samples, validation), tokens, options)
    return min(_bounds(tokens, options), default=None)


def held_out(samples: int, fraction: float) -> int:
    """How many of the samples `validation` holds out."""
    return min(max(1, round(fraction * samples)), samples - 1) if fraction else 0


def warmup_of(given: int | None, steps: int, *, usual: int) -> int:
    """Steps of warm-up: what the spec gives, or the usual number, but then at most a tenth of all.

    Raises:
        InvalidInput: the warm-up that is given does not end.
    """
    if given is None:
        return min(usual, steps // WARMUP_SHARE)
    if given >= steps:
        raise InvalidInput.field(
            "/recovery/warmup_steps", never_ends(given, steps), value=given, expected=warmup_expected(steps)
        )
    return given


def never_ends(warmup: int, steps: int) -> str:
    """What is wrong with such a warm-up, in words."""
    return f"a warm-up of {warmup:,} steps does not end in a training of {steps:,}"


def warmup_expected(steps: int) -> str:
    """What would be right."""
    return f"at most {steps - 1:,}, or no `warmup_steps`, which takes at most a tenth of the steps"


def _bounds(tokens: int, options: Lengths) -> list[int]:
    bounds = [] if options.max_steps is None else [options.max_steps]
    if options.max_tokens is not None:
        bounds.append(max(1, options.max_tokens // (options.batch_size * tokens)))
    return bounds
