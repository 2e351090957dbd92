"""What a row of the table of metrics holds: how one figure is read, written, compared with the original and judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from secateur.contract import numbers as n
from secateur.contract.intervals import Estimate, mean_of
from secateur.contract.readings import Reader, Reading, Variant


def uncapitalised(label: str) -> str:
    """A label within a sentence: "Perplexity ratio" → "perplexity ratio"; "KL divergence" stays."""
    return label if label[1:2].isupper() else label[:1].lower() + label[1:]


@dataclass(frozen=True)
class Section:
    """Figures that stand together."""

    title: str
    how: str = ""  # how all of them were measured
    quality: bool = False  # whether they say how good the variant's text or answers are
    of_machine: bool = False  # whether they depend on where they were measured as much as on the model


@dataclass(frozen=True)
class Comparison:
    """How a figure is held against the original's."""

    of: Callable[[float, float], float]  # (the variant's, the original's)
    write: Callable[[float], str]  # beside the figure: "−15.8 %"
    format: n.Format = n.NUMBER  # where the comparison is judged


@dataclass(frozen=True)
class Judged:
    """A number that may be held to a limit."""

    metric: str  # in words: "KL divergence on news.txt"
    value: float
    low: float | None = None  # 95 % interval
    high: float | None = None
    phrase: str = ""  # the end of the words: " on news.txt"
    reading: Reading | None = None  # that it is of, or is made of; None of a mean


@dataclass(frozen=True)
class Metric:
    """One figure. `several` says what stands for it where a variant has it for several cells, texts or tasks."""

    name: str
    title: str
    section: Section
    read: Reader
    format: n.Format
    better: Literal["lower", "higher"]
    measured_by: str | None = None  # the part of a job's benchmark that it comes from; None of what files tell
    several: Literal["first", "worst", "mean"] = "first"
    compares: Comparison | None = None
    judges: Literal["value", "comparison"] = "value"  # what is held to a limit
    judged_as: str = ""  # what that is called; the title if empty
    exact: bool = False  # counted, or read off once, so that there is no interval to judge
    of_tokens: bool = False  # whether it compares predictions of tokens, which takes two models of one vocabulary
    in_any_tokens: bool = False  # whether it stands in the place of such figures, where the vocabularies differ
    at_original: float | None = None  # what the original has by definition
    sought: str = ""  # what pruning is to gain by it, in words: a gate says so where it passes and no gain was shown
    how: str = ""  # what exactly is counted or timed
    unit: str = ""  # beside an axis
    short: bool = False  # whether it stands in short tables
    headline: bool = False  # whether it is among the few that a reader should see first

    @property
    def axis(self) -> str:
        """The title of an axis: "KL divergence (nats per token)"."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def label(self) -> str:
        """What is judged, as a label: "Perplexity ratio"."""
        words = self.judged_as if self.judges == "comparison" else self.title
        return words[:1].upper() + words[1:]

    @property
    def judged_format(self) -> n.Format:
        """How the judged number is written."""
        return self.compares.format if self.compares and self.judges == "comparison" else self.format

    def judged(self, variant: Variant) -> list[Judged]:
        """What may be held to a limit, of which the worst is; nothing where any of it was not measured."""
        readings = [reading for reading in self.read(variant) if reading.counts]
        if self.several == "first":
            readings = readings[:1]
        found = []
        for reading in readings:
            one = reading.compared if self.judges == "comparison" else reading
            if one is None:
                return []
            phrase = reading.subject.phrase
            found.append(Judged(f"{self._name}{phrase}", one.value, one.low, one.high, phrase, reading))
        return [self._mean(found)] if found and self.several == "mean" else found

    @property
    def judged_higher(self) -> bool:
        """Whether the judged number is the better the higher it is; losses and ratios are not."""
        return self.better == "higher" and self.judges == "value"

    def worst(self, judged: Sequence[Judged]) -> Judged:
        """The one whose value is worst: the least of what should be high, the greatest of losses and ratios."""
        return (min if self.judged_higher else max)(judged, key=lambda one: one.value)

    @property
    def _name(self) -> str:
        return self.judged_as or uncapitalised(self.title)

    def unshown(self, low: float | None, high: float | None) -> bool:
        """Whether this is a gain that pruning is for, and an interval leaves open whether there is any."""
        if not self.sought or self.at_original is None or low is None or high is None:
            return False
        return low <= self.at_original <= high

    def _mean(self, found: Sequence[Judged]) -> Judged:
        """The mean over tasks."""
        count = len(found)
        phrase = f" (mean of {count} task{'s' if count > 1 else ''})"
        mean = mean_of([Estimate(one.value, one.low, one.high) for one in found])
        return Judged(f"{self._name}{phrase}", mean.value, mean.low, mean.high, phrase)

    def compared(self, reading: Reading, original: Reading | None) -> Estimate | None:
        """`reading` against the original's; without an interval where it was not measured in pairs."""
        if reading.compared is not None:
            return reading.compared
        if self.compares is None or original is None:
            return None
        return Estimate(self.compares.of(reading.value, original.value))


def _relative(after: float, before: float) -> float:
    return after / before - 1 if before else float("nan")


CHANGE = Comparison(_relative, n.change)
RATIO = Comparison(lambda after, before: after / before if before else float("nan"), n.ratio, n.RATIO)
RISE = Comparison(lambda after, before: after - before, n.signed)
DROP = Comparison(lambda after, before: before - after, lambda drop: n.signed_points(-drop), n.POINTS)
