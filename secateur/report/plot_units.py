"""Loss without each half of each block, as a search over halves found it, with the removed ones marked."""

from __future__ import annotations

import math

from secateur.contract.numbers import significant
from secateur.contract.readings import text_amount
from secateur.contract.results import Pruned, UnitScore, UnitScores
from secateur.report.picture import LegendEntry, Picture, both
from secateur.report.svg import Canvas, Scale, axes, drawing, line, mark, padded, tag
from secateur.report.text import one_line, plural
from secateur.report.words import units_in_words

KEY = "units"
TITLE = "Loss without each half of a block"
# half → its shape, and where in its block's column it stands
_LOOKS = {"attention": ("circle", -0.25), "mlp": ("square", 0.25)}
_LEGEND = (
    LegendEntry("circle", "kept", "attention"),
    LegendEntry("square", "kept", "MLP"),
    LegendEntry("circle", "removed", "removed"),
)


def units(pruned: Pruned, scores: UnitScores) -> Picture | None:
    """A mark per unit that was tried, the attention left and the MLP right of its block's number."""
    shown = [score for score in scores.units if score.value is not None and math.isfinite(score.value)]
    if not shown:
        return None
    values = [float(score.value or 0.0) for score in shown]
    description = (
        f"{plural(len(shown), 'unit')}, from {significant(min(values))} to {significant(max(values))} nats per token. "
        f"Removed: {units_in_words(pruned)}."
    )

    def draw(canvas: Canvas) -> str:
        body = _draw(canvas, shown, removed=set(pruned.units), blocks=pruned.model.blocks)
        return drawing(canvas, body, key=KEY, title=TITLE, description=description)

    return Picture(KEY, TITLE, _caption(pruned, scores, shown), both(draw, height=300, phone_height=260), _LEGEND)


def _draw(canvas: Canvas, shown: list[UnitScore], *, removed: set[str], blocks: int) -> str:
    ends = [float(s.value or 0.0) + sign * (s.standard_error or 0.0) for s in shown for sign in (-1, 1)]
    low, high = padded(ends)
    left, right = 52, canvas.width - 8
    x = Scale(-0.6, blocks - 0.4, left, right)
    y = Scale(low, high, canvas.height - 48, 30)
    room = (right - left) / (blocks + 0.2)  # pixels for each block
    every = next(step for step in (1, 2, 5, 10, 20, 50, 100, 1000) if step * room >= 26)
    ticks = [float(block) for block in range(0, blocks, every)]
    marks, bands = [], []
    radius = max(1.2, min(4.0, room * 0.2))
    for score in shown:
        block, _, half = score.unit.partition(".")
        shape, aside = _LOOKS[half]
        value, error, at = float(score.value or 0.0), score.standard_error or 0.0, int(block) + aside
        if score.unit in removed:
            bands.append(
                tag("rect", x=x(at) - room / 4, y=y.stop, width=room / 2, height=y.start - y.stop, class_="band")
            )
        if error:
            marks.append(line(x(at), y(max(value - error, low)), x(at), y(value + error), "error"))
        marks.append(mark(shape, x(at), y(value), radius, "removed" if score.unit in removed else "kept"))
    grid = axes(x, y, x_title="block", y_title="loss without it, nats per token", x_ticks=ticks, y_ticks=y.ticks(5))
    return "".join([*bands, grid, *marks])


def _caption(pruned: Pruned, scores: UnitScores, shown: list[UnitScore]) -> str:
    parts = [
        f"Removed, one in each round: {', '.join(scores.order[: len(pruned.units)])}.",
        "Of a removed half: the loss after its removal; of the others: the last round's loss without them.",
    ]
    untried = len(scores.units) - len(shown)
    if untried:
        parts.append(f"{plural(untried, 'unit')} protected and not drawn.")
    if any(score.standard_error is not None for score in shown):
        parts.append("Bars: one standard error over the calibration samples.")
    if pruned.calibration:
        parts.append(f"Calibration: {one_line(pruned.calibration.description)}, {text_amount(pruned.calibration)}.")
    return " ".join(parts)
