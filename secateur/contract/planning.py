"""What the stages hand on that find out how much goes, or what: Planned, Corrected, Searched, DraftPlanned, Chosen …"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from secateur.contract.measurements import Interval
from secateur.contract.results import Environment, ModelInfo, Result, TextInfo


class TimedDepth(Result):
    """What a target asks for, measured without so many blocks, whichever they were."""

    removed: int
    value: float
    low: float | None = None  # 95 % interval; None of what was read off once
    high: float | None = None

    @classmethod
    def of(cls, removed: int, reading: Interval) -> TimedDepth:
        """Without so many blocks."""
        exact = reading.low == reading.high
        low, high = (None, None) if exact else (reading.low, reading.high)
        return cls(removed=removed, value=reading.median, low=low, high=high)


class Planned(Result):
    """How many blocks go so that a target of speed or memory is reached, and how that was found.

    The figure follows from time = a + b · blocks (or memory likewise), fitted to the depths that were measured; the
    number is the least whose prediction reaches the target. Then that depth was measured by itself.
    """

    figure: str  # "speedup"
    asked: float  # as in the spec
    limit: float  # the figure that was asked for; a share of the original's as a number
    batch_size: int
    input_tokens: int
    output_tokens: int
    original: TimedDepth
    tried: list[TimedDepth]  # ascending by blocks removed
    per_block: float  # what one block takes of the original's time or memory, as a share
    removed: int  # the number that was chosen
    predicted: TimedDepth  # of it, by the fit
    confirmed: TimedDepth  # of it, measured
    corrected_from: int | None = None  # the number before, where its own measurement spoke against it
    runs: int  # timed generations of each model; 1 of memory
    timed_tokens: int | None = None  # of each generation, after its first; the others are taken to be like these
    model: ModelInfo
    seconds: float
    environment: Environment
    notes: list[str] = Field(default_factory=list)


class Corrected(Result):
    """What the benchmark of the real result said of the plan's number of blocks, and the number that follows from it.

    The figure follows from the plan's line, moved so that it goes through what was measured.
    """

    figure: str  # as in the plan
    limit: float
    planned: int  # blocks that the plan took away
    measured: TimedDepth | None  # of these, by the benchmark; None where it has no such figure
    removed: int  # blocks that are to go; the plan's number where no second round is begun
    predicted: TimedDepth | None  # of `removed`, by the moved line
    message: str  # what became of it, in words: why there is a second round, or why there is none

    @property
    def again(self) -> bool:
        """Whether a second round is begun."""
        return self.removed != self.planned


class TriedDepth(Result):
    """A depth that was healed quickly, and how far from the original that is on held-out samples."""

    removed: int
    kl: float  # mean KL(original || healed), nats per token
    kl_low: float | None = None  # 95 % interval over samples; None of a single one
    kl_high: float | None = None
    top1_agreement: float
    top1_agreement_low: float | None = None
    top1_agreement_high: float | None = None
    within: bool  # whether the worse ends keep the constraints


class Searched(Result):
    """How many blocks can go within the constraints, found by bisection with a healing for each depth."""

    limits: dict[str, float]  # the constraints that the search went by
    tried: list[TriedDepth]  # ascending by blocks removed
    removed: int  # the most that keeps them
    healed: bool  # whether cuts were healed, as where a recovery follows
    fitted_tokens: int
    judged_tokens: int
    text: TextInfo
    model: ModelInfo
    seconds: float
    environment: Environment

    @property
    def chosen(self) -> TriedDepth:
        """The depth that was chosen, as it was foreseen."""
        return next(depth for depth in self.tried if depth.removed == self.removed)


class Candidate(Result):
    """A set of blocks that could go, and how far from the original the model without it is on held-out samples.

    Divergences are mean KL(original || model), nats per token.
    """

    blocks: list[int]  # ascending
    origin: Literal["criterion", "run", "swap"]  # the criterion's own set, a run, or its own but for one block
    kl_pruned: float  # nothing done
    kl_healed: float  # its cuts healed quickly; never above the former, since what does not help is left out
    kl_distilled: float | None = None  # after a few steps of distillation more; None of those that were no finalists


class Chosen(Result):
    """Which of several sets of blocks goes, by what is left once their cuts are healed."""

    dropped: list[int]  # the set that is taken, ascending
    candidates: list[Candidate]  # the criterion's own set first
    steps: int | None = None  # of each finalist's distillation; None where there were no finalists
    fitted_tokens: int
    judged_tokens: int
    text: TextInfo
    model: ModelInfo
    seconds: float
    environment: Environment

    @property
    def taken(self) -> Candidate:
        """The set that goes."""
        return next(candidate for candidate in self.candidates if candidate.blocks == self.dropped)

    @property
    def own(self) -> Candidate:
        """The set that the criterion alone would have taken."""
        return self.candidates[0]


class TimedHalves(Result):
    """What a target asks for, measured without so many attentions and MLPs, whichever they were."""

    attentions: int
    mlps: int
    value: float
    low: float | None = None  # 95 % interval; None of what was read off once
    high: float | None = None


class Share(Result):
    """What one half takes of the original's time or memory, as a share."""

    value: float
    low: float | None = None
    high: float | None = None


class UnitCosts(Result):
    """What joint pruning spends its budget by.

    The figure follows from time = a + b · attentions + c · MLPs (or memory likewise), fitted to what was measured.
    """

    figure: str  # "speedup"
    asked: float  # as in the spec
    limit: float  # the figure that was asked for; a share of the original's as a number
    batch_size: int
    input_tokens: int
    output_tokens: int
    original: TimedHalves
    tried: list[TimedHalves]
    attention: Share
    mlp: Share
    needed: float  # share of the original's that has to be saved, so that the worse end of the prediction reaches
    runs: int  # timed generations of each model; 1 of memory
    timed_tokens: int | None = None  # of each generation, after its first; the others are taken to be like these
    model: ModelInfo
    seconds: float
    environment: Environment
    notes: list[str] = Field(default_factory=list)

    def foreseen(self, saved: float) -> float:
        """The figure where so much of the original's time or memory is saved, a share."""
        value = self.original.value
        return value / (1 - saved) if self.figure in ("speedup", "tokens_per_second") else value * (1 - saved)


class TriedDraft(Result):
    """A depth at which the model was healed quickly, and what is expected of it as a draft."""

    removed: int
    acceptance: float  # share of the target's own tokens that it proposes, on held-out samples
    acceptance_low: float | None = None  # 95 % interval over samples; None of a single one
    acceptance_high: float | None = None
    cost: float  # seconds of a token over the target's, by the line through the depths that were timed
    expected: float  # speedup of the target by the formula


class DraftPlanned(Result):
    """How many blocks go so that the model is the best draft of its target, and how that was found."""

    tokens: int  # that are proposed at a time
    original: TriedDraft  # the model as it is
    tried: list[TriedDraft]  # ascending by blocks removed
    removed: int  # the number with the highest expected speedup
    healed: bool  # whether cuts were healed, as where a recovery follows
    fitted_tokens: int
    judged_tokens: int
    text: TextInfo  # which the target has written
    model: ModelInfo
    target_model: ModelInfo
    seconds: float
    environment: Environment

    @property
    def chosen(self) -> TriedDraft:
        """The depth that was chosen."""
        return next(depth for depth in self.tried if depth.removed == self.removed)
