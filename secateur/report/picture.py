"""What a plot hands to the page: the drawing for two widths, its title, its legend and its caption."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from secateur.report.svg import Canvas, mark, tag

PAGE = 720  # CSS pixels; the page's column
PHONE = 340

# The variants' looks, by place: the original, then what was made of it. Later ones (quantised) mix them anew.
LOOKS = (("circle", "v0"), ("square", "v1"), ("diamond", "v2"), ("cross", "v3"))


@dataclass(frozen=True)
class LegendEntry:
    shape: str
    class_: str
    words: str
    line: bool = False  # whether it stands for a curve, whose dashes its class has

    @property
    def glyph(self) -> str:
        """A small drawing of the mark, on a piece of its curve where it has one."""
        if not self.line:
            drawn = mark(self.shape, 7, 7, 4, self.class_)
            return tag("svg", drawn, viewBox="0 0 14 14", class_="glyph", aria_hidden="true")
        piece = tag("polyline", points="0,7 42,7", class_=f"curve {self.class_}")
        drawn = piece + mark(self.shape, 21, 7, 4, self.class_.partition(" ")[0])
        return tag("svg", drawn, viewBox="0 0 42 14", class_="glyph line", aria_hidden="true")


@dataclass(frozen=True)
class Picture:
    """One plot. The drawings are SVG markup, everything else is plain text."""

    key: str
    title: str
    caption: str  # what is drawn and how it was measured
    drawings: tuple[str, ...]  # for a page and for a phone; one alone where it fits both
    legend: tuple[LegendEntry, ...] = ()

    @property
    def half(self) -> bool:
        """Whether two of its kind stand side by side on a page."""
        return len(self.drawings) == 1


def both(draw: Callable[[Canvas], str], *, height: int, phone_height: int | None = None) -> tuple[str, str]:
    """Draw for a page and for a phone."""
    return draw(Canvas("wide", PAGE, height)), draw(Canvas("narrow", PHONE, phone_height or height))


def one(draw: Callable[[Canvas], str], *, height: int) -> tuple[str]:
    """Draw once, as wide as a phone, or as half a page."""
    return (draw(Canvas("narrow", PHONE, height)),)


def look(index: int) -> tuple[str, str]:
    """Shape and CSS class of the variant in place `index`."""
    round_ = index // len(LOOKS)  # shifts the colours, so that sixteen variants (quantised ones too) differ
    return LOOKS[index % len(LOOKS)][0], LOOKS[(index + round_) % len(LOOKS)][1]
