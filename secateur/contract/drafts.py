"""What a speculative draft gives the model that it drafts for (Leviathan et al. 2023, arXiv 2211.17192).

A draft proposes some tokens one after the other; the target looks at all of them in one pass, takes the first ones up
to where it disagrees, and adds one of its own. Where a proposed token is taken with the chance `acceptance` if all
before it were, a pass yields (1 - acceptance^(tokens + 1)) / (1 - acceptance) tokens on average, and costs
tokens · cost + verification of the target's time for one token. The paper takes the verification as 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from secateur.contract.numbers import percent, ratio

# The range within which pruned drafts are accepted, as measured here (docs/drafts.md) and published: by it a job is
# told beforehand what to expect.
USUAL_ACCEPTANCE = (0.6, 0.8)
MOST_TOKENS = 64  # that are drafted at a time
_STEPS = 60  # of the bisection


def tokens_per_pass(acceptance: float, tokens: int) -> float:
    """Tokens that a pass of the target yields on average, its own one included.

    >>> tokens_per_pass(0.5, 2), tokens_per_pass(1.0, 4), tokens_per_pass(0.0, 4)
    (1.75, 5.0, 1.0)
    """
    return float(sum(acceptance**taken for taken in range(tokens + 1)))


def draft_speedup(acceptance: float, tokens: int, cost: float, *, verification: float = 1.0) -> float:
    """How many times as fast as the target alone generation with a draft is.

    Args:
        cost: seconds of a token of the draft over the target's.
        verification: seconds of the target's pass over `tokens` + 1 tokens over those of one token.

    >>> round(draft_speedup(0.62, 1, 0.8), 2), round(draft_speedup(0.74, 1, 0.8), 2)
    (0.9, 0.97)
    """
    return tokens_per_pass(acceptance, tokens) / (tokens * cost + verification)


def least_acceptance(tokens: int, cost: float) -> float | None:
    """The acceptance from which on a draft of this cost pays; None where not even 1 does.

    >>> least_acceptance(1, 0.25), least_acceptance(5, 1.0)
    (0.25, None)
    """
    if draft_speedup(1.0, tokens, cost) <= 1:
        return None
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if draft_speedup(middle, tokens, cost) < 1 else (low, middle)
    return round(high, 9)


def best_tokens(acceptance: float, cost: float) -> int:
    """How many tokens to draft at a time so that it is as fast as it gets.

    >>> best_tokens(0.74, 0.8), best_tokens(0.8, 0.05)
    (1, 8)
    """
    return max(range(1, MOST_TOKENS + 1), key=lambda tokens: draft_speedup(acceptance, tokens, cost))


@dataclass(frozen=True)
class DraftOutlook:
    """What to expect of a draft of which the sizes alone are known, before anything is measured."""

    tokens: int  # drafted at a time
    cost: float  # of a token of the draft, as a share of the target's

    @property
    def least(self) -> float | None:
        """The acceptance from which on it pays; None where none does."""
        return least_acceptance(self.tokens, self.cost)

    @property
    def speedups(self) -> tuple[float, float]:
        """At both ends of the usual acceptance."""
        return _speedups(self.tokens, self.cost)

    @property
    def pays(self) -> bool:
        """Whether it can pay within what drafts are usually taken at."""
        return self.speedups[1] > 1

    @property
    def told(self) -> str:
        """All of it in words."""
        least, most = USUAL_ACCEPTANCE
        said = (
            f"By the weights that are read, a token of the draft costs {percent(self.cost)} of one of the target. "
            f"{_at_a_time(self.tokens)} at a time make the target {_span(self.speedups)} as fast where it accepts "
            f"{percent(least, 2)} to {percent(most, 2)} of them, as is usual of pruned drafts; no acceptance was "
            "measured yet."
        )
        if self.pays:
            return f"{said} It pays above an acceptance of {percent(self.least or 0, 2)}."
        needed = (
            "It cannot pay, whatever is accepted"
            if self.least is None
            else f"It would pay above an acceptance of {percent(self.least)}"
        )
        better, best = best_tokens(most, self.cost), ""
        if better != self.tokens:
            best = f" With {_at_a_time(better)} at a time, its best, it is {_span(_speedups(better, self.cost))}."
        return f"This draft is not expected to pay. {said} {needed}.{best}"


def _speedups(tokens: int, cost: float) -> tuple[float, float]:
    low, high = (draft_speedup(acceptance, tokens, cost) for acceptance in USUAL_ACCEPTANCE)
    return low, high


def _at_a_time(tokens: int) -> str:
    return f"{tokens} token{'' if tokens == 1 else 's'}"


def _span(speedups: tuple[float, float]) -> str:
    low, high = speedups
    return f"{ratio(low)} to {ratio(high)}"
