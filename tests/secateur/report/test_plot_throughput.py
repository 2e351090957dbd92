"""Throughput against latency: which points stand together, and where their lines go."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import unescape
from typing import Any

import pytest

from secateur.report.picture import Picture
from secateur.report.plot_throughput import throughput
from tests.fixtures.sweep_reports import point, swept, timed

GRID = {(1, 32): 2.0, (8, 32): 8.0, (1, 8): 0.5, (8, 8): 2.5}
BUSY = {cell: 2 * seconds for cell, seconds in GRID.items()}  # the same machine in a worse hour
FIFTH, THIRD = 107_600_000, 87_400_000


def drawn(*points: tuple[Mapping[tuple[int, int], float], float, int, str], **changes: Any) -> list[Picture]:
    """The pictures of a sweep of points: the original's seconds, the speedup, parameters, the method."""
    return throughput(
        swept(
            [
                point(place, timed(original, speedup, parameters=parameters), {"pruning.kind": kind})
                for place, (original, speedup, parameters, kind) in enumerate(points)
            ],
            **changes,
        )
    )


def told(picture: Picture) -> list[str]:
    """What a reader who does not see it is told."""
    (drawing,) = picture.drawings
    found = re.search(r"<desc[^>]*>(.*?)</desc>", drawing)
    assert found is not None
    return unescape(found[1]).split("; ")


def words(pictures: Sequence[Picture]) -> list[list[str]]:
    return [[entry.words for entry in picture.legend] for picture in pictures]


def test_methods_of_one_size_stand_together_at_each_length() -> None:
    found = drawn(
        (GRID, 1.25, FIFTH, "depth"),
        (GRID, 1.6, THIRD, "depth"),
        (GRID, 1.1, FIFTH + 2_000_000, "flap"),
        (GRID, 1.2, THIRD, "flap"),
    )
    assert [picture.title for picture in found] == [
        "Throughput at 12 + 8 tokens, 108 to 110 million parameters",
        "Throughput at 12 + 32 tokens, 108 to 110 million parameters",
        "Throughput at 12 + 8 tokens, 87.4 million parameters",
        "Throughput at 12 + 32 tokens, 87.4 million parameters",
    ]
    assert words(found) == 2 * [["original", "0: depth", "2: flap"]] + 2 * [["original", "1: depth", "3: flap"]]
    looks = [{entry.words[3:]: entry.glyph for entry in picture.legend} for picture in found]
    assert looks[0] == looks[2]  # a method looks the same in all of them
    assert len({picture.key for picture in found}) == 4


def test_a_bad_hour_moves_no_line() -> None:
    _, found = drawn((GRID, 1.25, FIFTH, "depth"), (BUSY, 1.25, FIFTH, "flap"), (GRID, 1.0, FIFTH, "wanda_sp"))
    assert told(found) == [
        "original, batch 1: 2.00 s, 16.0 tokens per second",
        "original, batch 8: 8.00 s, 32.0 tokens per second",
        "depth, batch 1: 1.60 s, 20.0 tokens per second",
        "depth, batch 8: 6.40 s, 40.0 tokens per second",
        "flap, batch 1: 1.60 s, 20.0 tokens per second",
        "flap, batch 8: 6.40 s, 40.0 tokens per second",
        "wanda_sp, batch 1: 2.00 s, 16.0 tokens per second",
        "wanda_sp, batch 8: 8.00 s, 32.0 tokens per second",
    ]


def test_faster_lies_further_left_by_as_much_at_every_batch() -> None:
    _, found = drawn((GRID, 1.25, FIFTH, "depth"), (GRID, 1.1, FIFTH, "flap"))
    lines = [
        [tuple(map(float, corner.split(","))) for corner in corners.split()]
        for corners in re.findall(r'<polyline points="([^"]+)"', found.drawings[0])
    ]
    original, depth, flap = lines
    for slow, fast, fastest in zip(original, flap, depth, strict=True):
        assert fastest[0] < fast[0] < slow[0]
        assert fastest[1] < fast[1] < slow[1]  # and further up
    assert original[0][0] - depth[0][0] == pytest.approx(original[1][0] - depth[1][0], abs=0.11)


def test_where_no_two_are_of_one_size_all_stand_together() -> None:
    found = drawn(*((GRID, 1 + size / 10, FIFTH - 15_000_000 * size, "depth") for size in range(3)))
    assert len(found) == 2
    assert [len(picture.legend) for picture in found] == [4, 4]
    assert len({entry.glyph for entry in found[0].legend}) == 4


def test_one_batch_size_makes_no_line() -> None:
    alone = {(1, 32): 2.0, (1, 8): 0.5}
    assert drawn((alone, 1.2, FIFTH, "depth"), (alone, 1.1, FIFTH, "flap")) == []
    assert throughput(swept([point(0, None)])) == []


def test_what_was_timed_elsewhere_is_left_out() -> None:
    report = swept(
        [
            point(0, timed(GRID, 1.2, parameters=FIFTH), {"pruning.kind": "depth"}),
            point(1, timed(GRID, 1.1, parameters=FIFTH), {"pruning.kind": "flap"}),
            point(2, timed(GRID, 3.0, parameters=FIFTH, device_name="another"), {"pruning.kind": "wanda_sp"}),
            point(3, timed({(1, 32): 2.0}, 3.0, parameters=FIFTH), {"pruning.kind": "llm_pruner"}),
        ]
    )
    assert [len(one.cells) for one in report.points] == [4, 4, 0, 0]
    assert words(throughput(report)) == 2 * [["original", "0: depth", "1: flap"]]
