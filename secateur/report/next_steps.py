"""What a reader may try next, from the figures of a report: a few sentences, and none where nothing calls for it.

What is computed from measurements and not measured itself says "about".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

from secateur.contract.depth import most_that_may_go
from secateur.contract.measurements import Measurement
from secateur.contract.numbers import plain, ratio, significant
from secateur.contract.options.gates import GATES
from secateur.contract.report import GateResult, Report
from secateur.report.text import block_list, one_line, plural

MOST = 3  # sentences; a longer list is not acted on
STILL_FALLING = 0.01  # of the loss, from the third quarter of the curve to its last
LEAST_POINTS = 8  # of a curve that is judged
UNEVEN = 2.0  # times the least divergence, from which on that of a text is called high
ROOM = 0.5  # of a limit: a figure that takes no more of it leaves room


def next_steps(report: Report) -> list[str]:
    """The weightiest first."""
    return [words for writer in _WRITERS for words in writer(report)][:MOST]


def _final(report: Report) -> Measurement | None:
    return next((one for one in report.benchmarks.variants if one.variant == report.final_variant), None)


def _failed(report: Report, *, quality: bool) -> list[GateResult]:
    """Gates that failed on a figure that was measured, on quality or on the rest."""
    judged = [gate for gate in report.gates if gate.gate in GATES and gate.value is not None and not gate.passed]
    return [gate for gate in judged if GATES[gate.gate].section.quality is quality]


def _blocks(report: Report) -> int:
    """How many whole blocks the spec's number or share took; 0 where something else decided, or other parts went."""
    pruning = report.spec.get("pruning", {})
    by_number = pruning.get("kind") == "depth" and (pruning.get("blocks") or pruning.get("ratio"))
    return len(report.pruned.dropped) if by_number else 0


def _may_go(report: Report) -> int:
    """How many blocks a job may ask for; its spec has the "+" rule where it had a choice to make."""
    return most_that_may_go(report.model.blocks, plus=(report.spec.get("scoring") or {}).get("plus", True))


def _asked_for(report: Report, counts: Iterable[int]) -> str:
    """These numbers of blocks in the words of the job's own field, which the other one excludes: pruning.blocks=3,5."""
    if report.spec["pruning"].get("blocks"):
        return f"pruning.blocks={','.join(str(count) for count in counts)}"
    return f"pruning.ratio={','.join(f'{count / report.model.blocks:.4g}' for count in counts)}"


def _needs_recovery(report: Report) -> Iterator[str]:
    failed = _failed(report, quality=True)
    if not failed:
        return
    if report.recovered is None:
        yield (
            f"{failed[0].message}, and nothing was recovered: try `recovery` of the kind `healing`, which fits what is "
            "left to the original in minutes, or `distill`, which trains."
        )
    elif report.recovered.kind == "healing":
        yield f"{failed[0].message}: after healing, `recovery` of the kind `distill` trains what it could not fit."


def _still_learning(report: Report) -> Iterator[str]:
    curve = report.recovered.curve if report.recovered else []
    losses = [point.loss for point in curve if math.isfinite(point.loss)]
    if len(losses) < LEAST_POINTS:
        return
    quarter = len(losses) // 4
    before, after = (sum(part) / quarter for part in (losses[-2 * quarter : -quarter], losses[-quarter:]))
    if before - after > STILL_FALLING * before:
        assert report.recovered is not None
        yield (
            f"The training loss was still falling when the training ended, from {significant(before)} to "
            f"{significant(after)} over its last quarters: try more than {plural(report.recovered.steps, 'step')} "
            "(`recovery.max_steps`)."
        )


def _too_much_went(report: Report) -> Iterator[str]:
    failed, blocks = _failed(report, quality=True), _blocks(report)
    if failed and blocks > 1:
        fewer = _asked_for(report, sorted({max(1, blocks // 2), blocks - 1}))
        yield (
            f"{failed[0].message} with {plural(blocks, 'block')} gone: a sweep with `--grid {fewer}` "
            "shows how many may go."
        )


def _too_slow(report: Report) -> Iterator[str]:
    for gate in _failed(report, quality=False):
        if gate.gate != "min_speedup" or gate.value is None:
            continue
        if gate.value >= gate.threshold:
            yield (
                f"The speedup itself, {ratio(gate.value)}, is above the limit, and only the low end of its interval is "
                "below: try more runs (`benchmark.latency.runs`), or a quieter machine."
            )
        elif not report.pruned.dropped:
            yield (
                f"The speedup is {ratio(gate.value)}: narrower blocks hardly speed up small batches, and fewer blocks "
                "do about in proportion; try `pruning` of the kind `depth`."
            )
        elif (blocks := _blocks(report)) and gate.value > 1:
            needed = math.ceil(blocks * (1 - 1 / gate.threshold) / (1 - 1 / gate.value))
            if needed <= _may_go(report):
                yield (
                    f"{plural(blocks, 'block')} gave {ratio(gate.value)}, so {plain(gate.threshold)}× takes about "
                    f"{needed}: try `{_asked_for(report, [needed])}`."
                )


def _high_on_one_text(report: Report) -> Iterator[str]:
    final = _final(report)
    found = sorted(final.fidelity, key=lambda one: one.kl) if final else []
    if len(found) > 1 and found[-1].kl > UNEVEN * found[0].kl:
        most, least = found[-1], found[0]
        yield (
            f"KL divergence is high on {one_line(most.text.description)} ({significant(most.kl)} nats per token, and "
            f"{significant(least.kl)} on {one_line(least.text.description)}): where that text matters, try one like it "
            "as `recovery.text` and as the calibration's."
        )


def _room_is_left(report: Report) -> Iterator[str]:
    """All passed, and the strictest gate on quality is far from its limit."""
    if not report.gates or not all(gate.passed for gate in report.gates) or not (blocks := _blocks(report)):
        return
    shares = [
        gate.judged / gate.threshold
        for gate in report.gates
        if gate.gate.startswith("max_")
        and gate.gate in GATES
        and GATES[gate.gate].section.quality
        and GATES[gate.gate].at_original in (None, 0)  # a ratio begins at 1, so its share of a limit says little
        and gate.judged is not None
        and gate.threshold > 0
    ]
    more = [count for count in (blocks + 1, blocks + 2) if count <= _may_go(report)]
    if more and shares and max(shares) <= ROOM:
        yield (
            f"Every gate on quality leaves at least half of its limit with blocks {block_list(report.pruned.dropped)} "
            f"gone: a sweep with `--grid {_asked_for(report, more)}` shows whether more may go."
        )


_WRITERS: tuple[Callable[[Report], Iterator[str]], ...] = (
    _needs_recovery,
    _still_learning,
    _too_much_went,
    _too_slow,
    _high_on_one_text,
    _room_is_left,
)
