"""Importance of each block by the job's criterion, with the removed ones marked."""

from __future__ import annotations

import math

from secateur.contract.catalog import CRITERIA
from secateur.contract.numbers import significant
from secateur.contract.readings import text_amount
from secateur.contract.results import BlockScore, Scores
from secateur.report.picture import LegendEntry, Picture, both
from secateur.report.svg import Canvas, Scale, axes, drawing, line, mark, padded, tag
from secateur.report.text import block_list, one_line

LOG_FROM = 20  # a ratio of greatest to least score from which a linear axis would hide the least ones


def importance(scores: Scores) -> Picture:
    """A mark per block: its score, or its place in the order where the criterion gives no score to each block."""
    finite = [s for s in scores.blocks if s.value is not None and math.isfinite(s.value)]
    by_place = len(finite) < max(1, len(scores.blocks) // 2)
    if by_place:
        place = {block: index + 1 for index, block in enumerate(scores.order)}
        finite = [BlockScore(block=s.block, value=place[s.block]) for s in scores.blocks if s.block in place]
    row = CRITERIA.get(scores.criterion)
    name = row.title if row else one_line(scores.criterion, limit=40)
    axis = "place in the order of removal" if by_place else f"{name.lower()} score"
    values = {s.block: float(s.value) for s in finite if s.value is not None}
    log = not by_place and min(values.values()) > 0 and max(values.values()) / min(values.values()) >= LOG_FROM
    title = "Importance of each block"
    description = (
        f"{name} score of {len(values)} blocks, from {significant(min(values.values()))} to "
        f"{significant(max(values.values()))}. Removed: {block_list(scores.drop)}."
    )

    def draw(canvas: Canvas) -> str:
        body = _draw(canvas, scores, finite, values, axis=f"{axis}{', log scale' if log else ''}", log=log)
        return drawing(canvas, body, key="importance", title=title, description=description)

    drawings = both(draw, height=300, phone_height=260)
    return Picture("importance", title, _caption(scores, name, finite, by_place), drawings, _legend(scores))


def _draw(
    canvas: Canvas,
    scores: Scores,
    shown: list[BlockScore],
    values: dict[int, float],
    *,
    axis: str,
    log: bool,
) -> str:
    errors = {s.block: s.standard_error for s in shown if s.standard_error is not None}
    ends = [v + sign * errors.get(b, 0) for b, v in values.items() for sign in (-1, 1)]
    ends = [v for v in ends if not log or v > 0]
    low, high = padded(ends, log=log)
    last = max(block.block for block in scores.blocks)
    left, right = 52, canvas.width - 8
    x = Scale(-0.6, last + 0.6, left, right)
    y = Scale(low, high, canvas.height - 48, 30, log=log)
    room = (right - left) / (last + 1.2)  # pixels for each block
    every = next(step for step in (1, 2, 5, 10, 20, 50, 100, 1000) if step * room >= 26)
    ticks = [float(block) for block in range(0, last + 1, every)]
    removed, protected = set(scores.drop), set(scores.protected)
    parts = [
        tag("rect", x=x(b) - room / 2, y=y.stop, width=room, height=y.start - y.stop, class_="band") for b in removed
    ]
    parts.append(axes(x, y, x_title="block", y_title=axis, x_ticks=ticks, y_ticks=y.ticks(5)))
    radius = max(1.5, min(4.5, room * 0.3))
    for block, value in values.items():
        error = errors.get(block, 0)
        if error:
            parts.append(line(x(block), y(max(value - error, low)), x(block), y(value + error), "error"))
        shape = "cross" if block in removed else "circle"
        class_ = "removed" if block in removed else "protected" if block in protected else "kept"
        parts.append(mark(shape, x(block), y(value), radius, class_))
    return "".join(parts)


def _legend(scores: Scores) -> tuple[LegendEntry, ...]:
    entries = [LegendEntry("cross", "removed", "removed"), LegendEntry("circle", "kept", "kept")]
    if scores.protected:
        entries.append(LegendEntry("circle", "protected", "protected, never removed"))
    return tuple(entries)


def _caption(scores: Scores, name: str, shown: list[BlockScore], by_place: bool) -> str:
    parts = [f"Removed: {block_list(scores.drop)}. The lower, the less important."]
    if by_place:
        parts.append(f"{name} orders the blocks without a score for each.")
    elif len(shown) < len(scores.blocks):
        parts.append(f"{len(scores.blocks) - len(shown)} blocks have no finite score and are not drawn.")
    if any(s.standard_error is not None for s in shown):
        parts.append("Bars: one standard error over the calibration samples.")
    if scores.calibration:
        text = scores.calibration
        parts.append(f"Calibration: {one_line(text.description)}, {text_amount(text)}.")
    return " ".join(parts)
