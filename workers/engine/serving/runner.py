"""What a model's times under an engine are made by: one runner for each model, asked in turn.

An engine is foreign code that may crash, hang or take all memory, so a runner keeps it in a process of its own and
tells an `EngineFailed` of whatever becomes of it. All its processes are of the stage's group, and end with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

STARTING = 900.0  # seconds that loading a model may take
_MOST, _A_TOKEN = 300.0, 4.0  # seconds of one generation, and more for each of its tokens: a bound for what hangs
_SAID = 300  # characters of what an engine said last


class EngineFailed(Exception):
    """An engine gave no time, in words that follow its name: "ended with exit status 3: …"."""


@dataclass(frozen=True)
class Load:
    """How a model is to be loaded."""

    model: Path  # a GGUF file, or a checkpoint's folder
    threads: int
    gpu: bool
    dtype: str  # "float32": of a checkpoint's arithmetic
    tokens: int  # of the longest sequence, prompt and output
    sequences: int  # at a time
    memory_share: float  # of the GPU's whole memory, for engines that take a fixed part


@dataclass(frozen=True)
class Asked:
    """One generation."""

    prompts: Sequence[Sequence[int]]  # (sequences, tokens)
    output_tokens: int

    @property
    def patience(self) -> float:
        """Seconds after which it counts as hanging."""
        tokens = sum(len(prompt) + self.output_tokens for prompt in self.prompts)
        return _MOST + _A_TOKEN * tokens


@dataclass(frozen=True)
class Took:
    """Seconds of one generation by the engine's own clock."""

    prompt: float  # until the first token
    total: float


class Runner(Protocol):
    """A model under an engine."""

    @property
    def build(self) -> str:
        """The engine's name and version: "llama-bench, build 5163 (8cf427ff)"."""

    def time(self, asked: Asked) -> Took:
        """Generate once. Raises EngineFailed."""

    def close(self) -> None:
        """End it, whatever it does."""


def last_said(text: str) -> str:
    """The end of what an engine said, to stand behind a colon; nothing where it said nothing."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f": {lines[-1][-_SAID:]}" if lines else ""


def kill_with_children(pid: int) -> None:
    """Kill a process and whatever it has started."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for each in [*process.children(recursive=True), process]:
            with suppress(psutil.NoSuchProcess):
                each.kill()
