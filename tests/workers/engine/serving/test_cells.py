"""Figures of models under an engine: who is asked when, and the arithmetic; no test looks at how fast something was."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from workers.engine.benchmarks.latency import Cell
from workers.engine.serving.cells import time_under
from workers.engine.serving.runner import Asked, EngineFailed, Load, Took

CELL = Cell(batch_size=2, input_tokens=4, output_tokens=6, warmup=10, runs=4)


@dataclass
class Played:
    """An engine whose times are those that it is given: seconds of a model's prompt and whole generation."""

    times: dict[str, Took]
    fails: str = ""  # the model at whose second generation it fails
    asked: list[tuple[str, Asked]] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)

    def start(self, load: Load) -> PlayedRunner:
        return PlayedRunner(self, load.model.name)


@dataclass
class PlayedRunner:
    engine: Played
    name: str
    build: str = "played 1.0"

    def time(self, asked: Asked) -> Took:
        self.engine.asked.append((self.name, asked))
        if self.name == self.engine.fails and sum(name == self.name for name, _ in self.engine.asked) == 2:
            raise EngineFailed("was ended by signal 11")
        return self.engine.times[self.name]

    def close(self) -> None:
        self.engine.closed.append(self.name)


def loads(*names: str) -> dict[str, Load]:
    return {name: Load(Path(name), 1, False, "float32", 10, 2, 1.0) for name in names}


def test_all_are_asked_the_same_in_turn() -> None:
    engine = Played({"original": Took(1.0, 6.0), "pruned": Took(0.5, 4.0)})
    found = time_under(
        engine.start, loads("original", "pruned"), CELL, against="it", vocabulary=50, seed=3, progress=lambda *_: None
    )
    names = [name for name, _ in engine.asked]
    warm, timed = names[:4], names[4:]  # two rounds of warm-up are enough
    assert warm == ["original", "pruned", "pruned", "original"]
    assert timed == ["original", "pruned", "original"] * 4
    prompts = [asked.prompts for _, asked in engine.asked]
    assert prompts[4] == prompts[5] == prompts[6] != prompts[7]
    assert [len(prompt) for prompt in prompts[0]] == [4, 4]
    assert all(0 <= token < 50 for prompt in prompts[0] for token in prompt)
    assert sorted(engine.closed) == ["original", "pruned"]
    original, pruned = found["original"], found["pruned"]
    assert original.speedup is None
    assert pruned.speedup is not None
    assert pruned.speedup.median == pytest.approx(1.5)
    assert pruned.noise == pytest.approx(0)
    assert original.prompt_tokens_per_second.median == pytest.approx(2 * 4 / 1.0)
    assert original.tokens_per_second.median == pytest.approx(2 * 6 / 6.0)
    assert pruned.tokens_per_second.median == pytest.approx(2 * 6 / 4.0)
    assert (pruned.build, pruned.against, pruned.runs) == ("played 1.0", "it", 4)


def test_a_failure_names_the_model_and_ends_all() -> None:
    engine = Played({"original": Took(1.0, 6.0), "pruned": Took(0.5, 4.0)}, fails="pruned")
    with pytest.raises(EngineFailed, match=r"^was ended by signal 11 \(pruned\)$"):
        time_under(engine.start, loads("original", "pruned"), CELL, against="", vocabulary=50, seed=0)
    assert sorted(engine.closed) == ["original", "pruned"]
