"""A line of the height of a word: how one figure went, beside the words that tell it."""

from __future__ import annotations

from collections.abc import Sequence

from secateur.report.svg import tag

WIDTH, HEIGHT = 100, 18
MOST_POINTS = 50  # more cannot be told apart


def sparkline(values: Sequence[float]) -> str:
    """SVG markup, from 0 to a little above the greatest; empty where there are fewer than two.

    It says nothing that the words beside it do not, so a screen reader passes over it.
    """
    if len(values) < 2 or max(values) <= 0:
        return ""
    count = min(len(values), MOST_POINTS)
    chosen = [values[round(place * (len(values) - 1) / (count - 1))] for place in range(count)]
    wide, high = WIDTH / (len(chosen) - 1), (HEIGHT - 2) / max(chosen)
    points = " ".join(f"{place * wide:.1f},{HEIGHT - 1 - value * high:.1f}" for place, value in enumerate(chosen))
    line = tag("polyline", points=points, vector_effect="non-scaling-stroke")
    return tag(
        "svg", line, viewBox=f"0 0 {WIDTH} {HEIGHT}", preserveAspectRatio="none", class_="spark", aria_hidden="true"
    )
