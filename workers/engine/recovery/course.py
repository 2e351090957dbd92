"""How far a training has come: counts, the curve of its losses, and which validation was the best.

With weights, optimizer and generators it is all that a snapshot needs.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from secateur.contract.results import LossPoint

CURVE_POINTS = 500  # at most so many points of the loss curve, and the first step's


@dataclass
class Course:
    """Changed by the training alone, in every process alike."""

    step: int = 0  # steps taken
    tokens: int = 0  # trained on so far, every time that they were seen, by all processes, padding left out
    curve: list[LossPoint] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)  # of the steps since the last point of the curve
    best_step: int | None = None
    best_loss: float = math.inf
    worse: int = 0  # validations since the best one
    finished: bool = False
    resumed_from: list[int] = field(default_factory=list)
    seconds: float = 0.0

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Course:
        """What `plain` gave."""
        return cls(**{**plain, "curve": [LossPoint.model_validate(point) for point in plain["curve"]]})

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "curve": [point.model_dump() for point in self.curve]}

    def took(self, loss: float, *, rate: float, tokens: int, steps: int) -> LossPoint | None:
        """A step of so many was taken; the new point of the curve, the mean since the last one, where there is one."""
        self.step += 1
        self.tokens += tokens
        self.losses.append(loss)
        if self.step != 1 and self.step % max(1, steps // CURVE_POINTS):
            return None
        point = LossPoint(step=self.step, loss=sum(self.losses) / len(self.losses), learning_rate=rate)
        self.curve.append(point)
        self.losses = []
        return point

    def validated(self, loss: float) -> LossPoint:
        """The held-out samples have this loss now; it stands at the last point of the curve."""
        if loss < self.best_loss:
            self.best_step, self.best_loss, self.worse = self.step, loss, 0
        else:
            self.worse += 1
        self.curve[-1] = self.curve[-1].model_copy(update={"validation_loss": loss})
        return self.curve[-1]
