"""Training loss of the recovery, and validation loss where there is one."""

from __future__ import annotations

import math
from collections.abc import Sequence

from secateur.contract.numbers import count, significant
from secateur.contract.readings import text_amount
from secateur.contract.results import LossPoint, Recovered
from secateur.report.picture import LegendEntry, Picture, both
from secateur.report.svg import Canvas, Scale, axes, drawing, line, mark, padded, tag
from secateur.report.text import listed, one_line


def loss(recovered: Recovered) -> Picture | None:
    """The loss over the steps; None where the recovery had none (it was free of training)."""
    return curve(recovered.curve, resumed=recovered.resumed_from, caption=_caption(recovered))


def curve(points: Sequence[LossPoint], *, resumed: list[int], caption: str) -> Picture | None:
    """The same of points that may still become more; None before there is one."""
    training = [(p.step, p.loss) for p in points if math.isfinite(p.loss)]
    validation = [
        (p.step, p.validation_loss)
        for p in points
        if p.validation_loss is not None and math.isfinite(p.validation_loss)
    ]
    if not training:
        return None
    title = "Training loss"
    description = (
        f"From {significant(training[0][1])} nats per token at step {training[0][0]} to {significant(training[-1][1])} "
        f"at step {training[-1][0]}."
    )

    def draw(canvas: Canvas) -> str:
        body = _draw(canvas, training, validation, resumed)
        return drawing(canvas, body, key="loss", title=title, description=description)

    legend: tuple[LegendEntry, ...] = (LegendEntry("circle", "v2", "training"),)
    if validation:
        legend += (LegendEntry("diamond", "v1", "validation"),)
    drawings = both(draw, height=250)
    return Picture("loss", title, caption, drawings, legend)


def _draw(
    canvas: Canvas, training: list[tuple[int, float]], validation: list[tuple[int, float]], resumed: list[int]
) -> str:
    steps = [step for step, _ in training + validation]
    x = Scale(*padded([float(s) for s in [*steps, 0]], part=0.02, floor=0.0), 52, canvas.width - 12)
    y = Scale(*padded([value for _, value in training + validation], part=0.08, floor=0.0), canvas.height - 48, 30)
    x_ticks = [v for v in x.ticks(4 if canvas.narrow else 8) if float(v).is_integer()]
    parts = [axes(x, y, x_title="optimiser step", y_title="loss, nats per token", x_ticks=x_ticks, y_ticks=y.ticks(5))]
    parts += [line(x(step), y.start, x(step), y.stop, "resumed") for step in resumed if step <= x.high]
    for points, shape, class_ in ((training, "circle", "v2"), (validation, "diamond", "v1")):
        if len(points) > 1:
            path = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in points)
            parts.append(tag("polyline", points=path, class_=f"curve {class_}"))
        if len(points) <= 40:
            parts += [mark(shape, x(step), y(value), 2.5, class_) for step, value in points]
    return "".join(parts)


def _caption(recovered: Recovered) -> str:
    parts = [
        f"{recovered.steps:,} steps, {count(recovered.tokens)} tokens, "
        f"{count(recovered.trainable_parameters)} trainable parameters."
    ]
    if recovered.text:
        parts.append(f"Training text: {one_line(recovered.text.description)}, {text_amount(recovered.text)}.")
    parts.append("Each point is the mean since the last one.")
    if recovered.resumed_from:
        steps = listed([f"{step:,}" for step in recovered.resumed_from])
        parts.append(f"Dashed: interrupted and resumed at step {steps}.")
    return " ".join(parts)
