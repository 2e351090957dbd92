"""What a report suggests, from its figures."""

from __future__ import annotations

from typing import Any

import pytest

from secateur.contract.measurements import Interval
from secateur.contract.report import Report
from secateur.contract.results import LossPoint
from secateur.report.next_steps import MOST, next_steps
from tests.fixtures.reports import benchmarks, make_one, pruned, recovered

DEPTH = {"kind": "depth", "blocks": 6}
FLAT = [LossPoint(step=step, loss=3.0, learning_rate=1e-4) for step in range(1, 31)]


def made(
    *, kl: float = 0.3, other_kl: float | None = None, speedup: tuple[float, float] = (1.3, 1.2), **changes: Any
) -> Report:
    """A report whose final variant has these figures; the training, where there is one, has ended its fall."""
    whole = benchmarks()
    final = whole.variants[-1]
    fidelity = [
        one.model_copy(update={"kl": value, "kl_low": value * 0.9, "kl_high": value * 1.1})
        for one, value in zip(final.fidelity, (kl, kl if other_kl is None else other_kl), strict=True)
    ]
    middle, low = speedup
    fast = final.latency[0].model_copy(update={"speedup": Interval(median=middle, low=low, high=2 * middle - low)})
    changed = final.model_copy(update={"fidelity": fidelity, "latency": [fast, *final.latency[1:]]})
    given: dict[str, Any] = {
        "benchmarks": whole.model_copy(update={"variants": [*whole.variants[:-1], changed]}),
        "recovered": recovered(curve=FLAT),
        "pruning": DEPTH,
        "gates": {"max_kl": 0.5},
        "baseline": None,
    }
    return make_one(**{**given, **changes})


def test_figures_that_call_for_nothing_suggest_nothing() -> None:
    assert next_steps(made(kl=0.4)) == []
    assert next_steps(made(kl=9.0, gates={})) == []  # nobody said that it is too much


def test_a_gate_on_quality_that_failed_suggests_what_was_not_done() -> None:
    (recovery, fewer) = next_steps(made(kl=0.9, recovered=None, recovery={"kind": "none"}))
    assert "KL divergence" in recovery
    assert "`recovery` of the kind `healing`" in recovery
    assert "`--grid pruning.blocks=3,5`" in fewer
    healed = recovered(kind="healing", curve=[], steps=0)
    assert "`distill`" in next_steps(made(kl=0.9, recovered=healed))[0]
    assert all(
        "pruning.blocks" not in step for step in next_steps(made(kl=0.9, pruning={"kind": "depth", "drop": [3]}))
    )


def test_a_loss_that_was_still_falling_suggests_more_steps() -> None:
    curve = [LossPoint(step=step, loss=4.0 - 0.05 * step, learning_rate=1e-4) for step in range(1, 31)]
    (words,) = next_steps(made(kl=0.4, recovered=recovered(curve=curve)))
    assert "from 3.00 to 2.65 over its last quarters: try more than 60 steps" in words
    assert next_steps(made(kl=0.4, recovered=recovered(curve=curve[:7]))) == []  # too little to judge by


@pytest.mark.parametrize(
    ("speedup", "changes", "words"),
    [
        ((1.2, 1.15), {}, "6 blocks gave 1.20×, so 1.4× takes about 11: try `pruning.blocks=11`."),  # 6 · (2/7) / (1/6)
        ((1.45, 1.35), {}, "only the low end of its interval is below"),
        ((1.02, 1.0), {"pruned": pruned(kind="wanda", dropped=[])}, "`pruning` of the kind `depth`"),
    ],
)
def test_a_gate_on_speed_that_failed(speedup: tuple[float, float], changes: dict[str, Any], words: str) -> None:
    (step,) = next_steps(made(kl=0.4, speedup=speedup, gates={"min_speedup": 1.4}, **changes))
    assert words in step


def test_no_more_blocks_are_named_than_there_are() -> None:
    assert next_steps(made(speedup=(1.01, 1.005), gates={"min_speedup": 3})) == []


def test_what_is_suggested_can_be_asked_for() -> None:
    """No more blocks than the "+" rule lets go, and by the job's own field: a ratio and a number exclude each other."""
    most = DEPTH | {"blocks": 23}
    (words,) = next_steps(made(kl=0.2, pruning=most, pruned=pruned(dropped=list(range(4, 27)))))
    assert "`--grid pruning.blocks=24` shows" in words
    most["blocks"] = 24
    assert next_steps(made(kl=0.2, pruning=most, pruned=pruned(dropped=list(range(4, 28))))) == []
    (words,) = next_steps(made(kl=0.2, pruning={"kind": "depth", "ratio": 0.2}))
    assert "`--grid pruning.ratio=0.2333,0.2667` shows" in words
    assert [round(ratio * 30) for ratio in (0.2333, 0.2667)] == [7, 8]


def test_a_text_that_suffers_more_is_named() -> None:
    (words,) = next_steps(made(kl=0.1, other_kl=0.4))
    assert words.startswith("KL divergence is high on Salesforce/wikitext")
    assert "0.400 nats per token, and 0.100 on news.txt" in words


def test_room_under_the_limits_suggests_more_blocks() -> None:
    (words,) = next_steps(made(kl=0.2))
    assert "`--grid pruning.blocks=7,8`" in words
    assert next_steps(made(kl=0.2, gates={"max_kl": 0.5, "max_repetition": 0.16})) == []  # of which half is not left


def test_few_are_enough() -> None:
    curve = [LossPoint(step=step, loss=4.0 - 0.05 * step, learning_rate=1e-4) for step in range(1, 31)]
    gates = {"max_kl": 0.5, "min_speedup": 1.4}
    many = made(kl=0.9, other_kl=3.0, speedup=(1.2, 1.1), gates=gates, recovered=recovered(curve=curve))
    assert len(next_steps(many)) == MOST
