"""A sweep's report in every form: the same figures, and foreign text harmless."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from html import unescape
from importlib import import_module
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from app.reporting import sweep_csv, sweep_html, sweep_junit, sweep_markdown
from secateur.contract.jobs import State, Verdict
from secateur.contract.sweep_report import SweepReport
from secateur.report.sweep_forms import HTML, SWEEP_FORMS
from tests.fixtures.sweep_reports import measured, point, swept, timed, usual

EVIL = "<img src=x onerror=alert(1)>|@all\u202e"


@pytest.fixture(scope="module")
def report() -> SweepReport:
    return swept(usual())


def words(html: str) -> str:
    return unescape(" ".join(re.sub(r"<[^>]+>", " ", html).split()))


def test_every_form_says_what_is_recommended_and_why(report: SweepReport) -> None:
    page, text = words(sweep_html.render(report)), sweep_markdown.render(report)
    for form in (page, text):
        for part in (
            "Point 2 passes all gates, and is the best that does",
            "8 points: 7 succeeded, 1 failed",
            "has the best speedup of them, 1.24× (1.22 to 1.26)",
            "dominated by 2, within noise",
            "dominated by 4",
            "no result: The score stage ran out of memory.",
            "Point 7 has failed, and can be retried.",
            "2 of 6 stages were taken over and not computed again, which saved 1 min 17 s.",
            "0.346 to 0.374",
        ):
            assert part in form, part


def test_in_junit_the_sweep_alone_can_fail(report: SweepReport) -> None:
    def cases(of: SweepReport) -> list[ET.Element]:
        return ET.fromstring(sweep_junit.render(of).encode()).findall(".//testcase")

    sweep, *points = cases(report)
    assert sweep.get("name") == "a point passes all gates"
    assert len(points) == 8
    assert [case.find("failure") for case in (sweep, *points)] == [None] * 9
    passed = [place for place, case in enumerate(points) if case.find("skipped") is None]
    assert passed == [point.place for point in report.points if point.verdict is Verdict.PASSED]
    assert report.recommended in passed
    failed = report.model_copy(update={"verdict": Verdict.FAILED, "recommended": None, "why": "None passes."})
    failure = cases(failed)[0].find("failure")
    assert failure is not None
    assert failure.get("message") == "None passes."
    assert cases(report.model_copy(update={"verdict": Verdict.NONE})) == [], "without gates nothing is judged"
    running = report.model_copy(update={"state": State.RUNNING, "verdict": Verdict.NONE})
    assert cases(running)[0].find("skipped") is not None


def test_a_page_needs_nothing_from_elsewhere_and_runs_nothing(report: SweepReport) -> None:
    page = sweep_html.render(report)
    assert "default-src 'none'; style-src 'unsafe-inline'" in page
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="(?!report\.|\./|/ui/jobs/)', page)
    assert sweep_html.render(report, public_url="https://x.example/").count("https://x.example/ui/jobs/") == 8


def test_rows_have_their_rank_by_every_column(report: SweepReport) -> None:
    page = sweep_html.render(report)
    rows = re.findall(r'<tr role="row" class="([^"]*)" style="([^"]*)">', page)
    assert [name for name, _ in rows] == ["", "", "chosen", "greyed", "", "greyed", "", "greyed"]
    ranks = [dict(part.split(": ") for part in style.strip("; ").split("; ")) for _, style in rows]
    assert [rank["--speedup"] for rank in ranks] == ["6", "5", "3", "4", "1", "2", "0", "7"]  # the fastest first
    assert [rank["--kl"] for rank in ranks] == ["0", "1", "2", "3", "4", "5", "6", "7"]  # and the nearest
    assert [rank["--c0"] for rank in ranks] == ["0", "0", "1", "1", "2", "2", "3", "3"]
    for key in ranks[0]:
        name = key.removeprefix("--")
        assert f'id="sort-{name}"' in page
        assert f".points:has(#sort-{name}:checked) tbody tr {{ order: var(--{name}); }}" in page


def test_the_plot_has_points_limits_and_the_original(report: SweepReport) -> None:
    page = sweep_html.render(report)
    wide = page[page.index('class="plot wide"') : page.index("</svg>", page.index('class="plot wide"'))]
    for part in ("min_speedup", "max_kl", "original", "2, recommended", 'class="chosen"', 'class="front"'):
        assert part in wide
    assert wide.count('class="dim"') == 2
    assert "point 5: Speedup 1.40×, KL divergence 0.950, dominated by 4" in wide
    legend = page[page.index('<ul class="legend">') : page.index("</ul>", page.index('<ul class="legend">'))]
    assert re.findall(r"</svg>([^<]+)</li>", legend)[:2] == ["perplexity", "taylor"]


def test_without_a_pair_of_figures_there_is_no_plot() -> None:
    failed = swept([point(0, None), point(1, measured(1.2, 0.3))], x="speedup", y="largest_batch")
    page = sweep_html.render(failed)
    assert "<figure" not in page
    assert "largest batch was not measured" in page


def test_methods_that_differ_in_several_fields_are_told_apart() -> None:
    depth: list[dict[str, Any]] = [
        {"pruning.kind": "depth", "scoring.criterion": criterion} for criterion in ("perplexity", "taylor")
    ]
    width: list[dict[str, Any]] = [
        {"pruning.kind": kind, "pruning.ratio": 0.2, "pruning.calibration.text.path": "a.txt"}  # which all of them have
        for kind in ("wanda_sp", "flap", "llm_pruner")
    ]
    points = [
        point(place, measured(1.1 + 0.05 * place, 0.1 + 0.1 * place), changes)
        for place, changes in enumerate([*depth, *width])
    ]
    page = sweep_html.render(swept(points))
    legend = page[page.index('<ul class="legend">') : page.index("</ul>", page.index('<ul class="legend">'))]
    found = re.findall(r"</svg>([^<]+)</li>", legend)
    assert found == ["depth, perplexity", "depth, taylor", "wanda_sp", "flap", "llm_pruner"]
    glyphs = re.findall(r'<svg viewBox="0 0 14 14"[^>]*>(.*?)</svg>', legend)
    assert len(set(glyphs)) == 5
    assert ">–</td>" in page  # of a field that a point does not change
    columns = re.findall(r'<label for="sort-c\d">(.*?)</label>', page.replace("<wbr>", ""))
    assert columns[:2] == ["pruning.kind", "scoring.criterion"]  # what differs, and then what some have and all alike
    assert columns[2:] == ["pruning.ratio", "pruning.calibration.text.path"]


def cells(text: str) -> Iterator[dict[str, str]]:
    return iter(csv.DictReader(io.StringIO(text)))


def test_csv_has_every_figure_in_full(report: SweepReport) -> None:
    rows = list(cells(sweep_csv.render(report)))
    assert len(rows) == 8
    assert (rows[3]["pruning.blocks"], rows[3]["scoring.criterion"]) == ("6", "taylor")
    assert (rows[3]["standing"], rows[3]["dominated by"], rows[3]["recommended"]) == ("dominated", "2", "")
    assert rows[2]["recommended"] == "yes"
    for name in ("speedup", "kl", "parameters", "accuracy"):
        figure = report.points[2].figures[name]
        assert float(rows[2][name]) == figure.value
        assert rows[2][f"{name} low"] == ("" if figure.low is None else str(figure.low))
    assert (rows[7]["state"], rows[7]["speedup"]) == ("failed", "")


@pytest.mark.parametrize("form", [form for form in SWEEP_FORMS.values() if form.renderer], ids=lambda form: form.name)
def test_foreign_text_is_harmless(form: Any) -> None:
    changes = {"model.path": EVIL, "scoring.criterion": f"=1+{EVIL}"}
    found = swept(
        [point(0, measured(1.2, 0.3), changes), point(1, None, {"model.path": "b"}, problem=EVIL)],
        model=EVIL,
        labels={"a": EVIL},
    )
    text = import_module(str(form.renderer)).render(found)
    assert "\u202e" not in text
    if form is HTML:
        assert "<img" not in text
        assert "&lt;img" in text
    elif form.name == "md":
        assert "@all" not in re.sub("`[^`]*`", "", text)
        assert "<img" not in re.sub("`[^`]*`", "", text).replace("\\<", "")
        bars = {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")}
        assert len(bars) == 1  # no cell breaks its row
    elif form.name == "junit":
        assert EVIL.removesuffix("\u202e") in str(ET.fromstring(text.encode()).findall(".//property")[1].get("value"))
    else:
        rows = list(cells(text))
        assert rows[0]["scoring.criterion"].startswith("'=1+")


def test_throughput_stands_below_the_front_where_it_was_measured() -> None:
    grid = {(1, 32): 2.0, (8, 32): 8.0}
    points = [
        point(place, timed(grid, 1.2, parameters=107_000_000), {"pruning.kind": kind})
        for place, kind in enumerate(("depth", "flap"))
    ]
    page = sweep_html.render(swept(points))
    assert page.index('class="pareto whole"') < page.index('class="half"') < page.index('id="points"')
    assert "Throughput at 12 + 32 tokens, 107 million parameters" in words(page)
    assert 'class="half"' not in sweep_html.render(swept(usual()[:1]))
