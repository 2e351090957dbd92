"""Accuracy of every variant on each task, with standard errors; of a task with several filters, the first's."""

from __future__ import annotations

from secateur.contract.measurements import Measurement, TaskScore
from secateur.contract.metric_row import uncapitalised
from secateur.contract.metrics import ACCURACY
from secateur.report.picture import LegendEntry, Picture, both, look
from secateur.report.svg import Canvas, Scale, drawing, label, line, mark, padded, tick
from secateur.report.text import one_line

STEP, GAP = 15, 16  # pixels for each variant of a task, and between tasks
PHONE_NAME = 16  # on a phone the task's name stands above its rows
NAMES = 190
TOP, BOTTOM = 6, 44


def tasks(variants: list[Measurement]) -> Picture | None:
    """A row for each task; None where no task was run."""
    names = list(dict.fromkeys(score.task for m in variants for score in m.tasks if score.headline))
    if not names:
        return None
    shown = [
        (
            name,
            [
                (index, score)
                for index, m in enumerate(variants)
                for score in m.tasks
                if score.task == name and score.headline
            ],
        )
        for name in names
    ]
    title, written = f"{ACCURACY.title} by task", ACCURACY.format.write
    description = "; ".join(
        f"{name}: " + ", ".join(f"{variants[index].variant} {written(score.value)}" for index, score in scores)
        for name, scores in shown
    )

    def draw(canvas: Canvas) -> str:
        return drawing(canvas, _draw(canvas, shown), key="tasks", title=title, description=description)

    rows = sum(len(scores) for _, scores in shown)
    height = TOP + BOTTOM + STEP * rows + GAP * len(shown)
    drawings = both(draw, height=height, phone_height=height + PHONE_NAME * len(shown))
    legend = tuple(
        LegendEntry(*look(index), one_line(m.variant, limit=40)) for index, m in enumerate(variants) if m.tasks
    )
    return Picture("tasks", title, "To the right is better. Bars: one standard error over items.", drawings, legend)


def _draw(canvas: Canvas, shown: list[tuple[str, list[tuple[int, TaskScore]]]]) -> str:
    ends = [
        100 * (score.value + sign * (score.standard_error or 0))
        for _, scores in shown
        for _, score in scores
        for sign in (-1, 1)
    ]
    x = Scale(*padded(ends, part=0.06, floor=0.0), 8 if canvas.narrow else NAMES, canvas.width - 12)
    bottom = canvas.height - BOTTOM
    parts = []
    for value in x.ticks(4 if canvas.narrow else 8):
        parts.append(line(x(value), TOP, x(value), bottom, "grid"))
        parts.append(label(x(value), bottom + 18, tick(value), anchor="middle"))
    parts.append(line(x.start, bottom, x.stop, bottom, "axis"))
    parts.append(label(x.stop, bottom + 38, uncapitalised(ACCURACY.axis), anchor="end", class_="title"))
    top: float = TOP
    for name, scores in shown:
        words = one_line(name, limit=28)
        middle = top + GAP / 2 + STEP * len(scores) / 2 + 4
        parts.append(label(8, top + 14, words, class_="name halo") if canvas.narrow else label(0, middle, words))
        top += GAP / 2 + (PHONE_NAME if canvas.narrow else 0)
        for index, score in scores:
            shape, class_ = look(index)
            y, half = top + STEP / 2, 100 * (score.standard_error or 0)
            parts.append(line(x(100 * score.value - half), y, x(100 * score.value + half), y, f"whisker {class_}"))
            parts.append(mark(shape, x(100 * score.value), y, 4.5, class_))
            top += STEP
        top += GAP / 2
    return "".join(parts)
