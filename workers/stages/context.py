"""What a stage is given: its spec, its folders, and a way to tell where it stands.

A stage is one function, `run(context) -> Result`. It writes its files under `context.out`, keeps what must survive a
kill under `context.scratch`, and returns the object that `workers/stage.py` saves as JSON and emits as the result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

from pydantic import ValidationError

from secateur.contract.errors import StageFailed
from secateur.contract.protocol import (
    LogEvent,
    MetricsEvent,
    NewStage,
    PartEvent,
    ProgressEvent,
    StageEvent,
    StagesEvent,
    StageSpec,
    TextEvent,
)
from secateur.contract.results import ModelInfo, Result
from secateur.contract.rounds import of_round
from secateur.contract.stage_kinds import CHECK, PRUNE, STAGE_KINDS, StageKind

R = TypeVar("R", bound=Result)
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class StageContext:
    """One run of one stage."""

    stage: StageSpec
    emit: Callable[[StageEvent], None]

    @cached_property
    def out(self) -> Path:
        """The folder whose content is handed on and published; empty at the start of a run."""
        return self.stage.work / "out"

    @cached_property
    def scratch(self) -> Path:
        """The folder that the next attempt finds as this one left it."""
        path = self.stage.work / "scratch"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def progress(self, done: int, total: int, unit: str) -> None:
        """Tell how far the work is; this method is a `Progress` of the engine."""
        self.emit(ProgressEvent(done=done, total=total, unit=unit))

    def log(self, message: str, level: Literal["debug", "info", "warning", "error"] = "info") -> None:
        self.emit(LogEvent(level=level, message=message))

    def metrics(self, **figures: Any) -> None:
        self.emit(MetricsEvent(data=figures))

    def text(self, variant: str, text: str, tokens: int) -> None:
        """Tell the next piece of what `variant` writes, with which there are so many tokens of it."""
        self.emit(TextEvent(variant=variant, text=text, tokens=tokens))

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """The block is a part of the stage, which a trace of the job shows with the time that it took."""
        self.emit(PartEvent(name=name, state="began", at=time.time()))
        state: Literal["succeeded", "failed"] = "failed"
        try:
            yield
            state = "succeeded"
        finally:
            self.emit(PartEvent(name=name, state=state, at=time.time()))

    def has(self, kind: StageKind[Any]) -> bool:
        """Whether the job ran this earlier stage."""
        return any(given.kind == kind.name for given in self.stage.inputs.values())

    def input(self, kind: StageKind[Any]) -> Path:
        """The folder that an earlier stage left.

        Raises:
            StageFailed: it needs no stage of this kind, or more than one; or the folder is gone.
        """
        found = [given.folder for given in self.stage.inputs.values() if given.kind == kind.name]
        if len(found) > 1:
            raise StageFailed(f"The {self.stage.key} stage needs one {kind.name} stage, and was given {len(found)}.")
        if not found or not found[0].is_dir():
            raise StageFailed(
                f"The {self.stage.key} stage needs the files of the {kind.name} stage, which are missing."
            )
        return found[0]

    def read(self, kind: StageKind[R]) -> R:
        """The result of an earlier stage.

        Raises:
            StageFailed: there is none, or it is not what that stage writes.
        """
        file = self.input(kind) / kind.file
        try:
            return kind.result.model_validate_json(file.read_bytes(), extra="ignore")  # an older version may say more
        except (OSError, ValidationError) as error:
            raise StageFailed(f"{file.name} of the {kind.name} stage cannot be read: {error}") from error

    def of_round(self, number: int) -> StageContext:
        """The same stage with what belongs to one round of the job (`secateur/contract/rounds.py`)."""
        given = self.stage.inputs
        inputs = {key: given[key] for key in of_round({key: one.kind for key, one in given.items()}, number)}
        return replace(self, stage=self.stage.model_copy(update={"inputs": inputs}))

    def add(self, *stages: NewStage) -> None:
        """Give the job these stages, once the result of this one is committed."""
        self.emit(StagesEvent(stages=stages))

    def known_model(self) -> ModelInfo | None:
        """The original model as an earlier stage of the job found it."""
        for kind in STAGE_KINDS.values():
            if self.has(kind) and "model" in kind.result.model_fields:
                model: ModelInfo = self.read(kind).model
                return model
        return None

    def known_target(self) -> ModelInfo | None:
        """The model that a draft is for, as the check found it."""
        return self.read(CHECK).target_model if self.has(CHECK) else None

    def final_checkpoint(self) -> Path:
        """The model as the stages before have left it. Raises StageFailed if there is none."""
        left = [kind for kind in STAGE_KINDS.values() if kind.checkpoint and self.has(kind)]
        return self.input(left[-1] if left else PRUNE) / "checkpoint"


InContext = Callable[Concatenate[StageContext, P], T]


def part(name: str) -> Callable[[InContext[P, T]], InContext[P, T]]:
    """What the function does is a part of the stage: see `StageContext.part`."""

    def decorate(work: InContext[P, T]) -> InContext[P, T]:
        @wraps(work)
        def run(context: StageContext, /, *args: P.args, **kwargs: P.kwargs) -> T:
            with context.part(name):
                return work(context, *args, **kwargs)

        return run

    return decorate
