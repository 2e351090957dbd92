"""One report in every form: the page, Markdown, the model card, the terminal, the dashboard, JUnit. Each figure reads
the same in all of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from io import StringIO
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from app.web.pages import templates
from secateur.cli.render_report import COLUMN, LABELS, report_lines
from secateur.contract.measurements import Benchmarks
from secateur.contract.report import Report
from secateur.contract.results import PrunedFile, Quantised, QuantisedVariant, SourceFile
from secateur.report.figures import groups, headlines
from secateur.report.gates import interval_in_words, limit_in_words, value_in_words, verdict_in_words
from secateur.report.next_steps import next_steps
from tests.fixtures.reports import benchmarks, make_one, recovered
from workers.reporting import html, junit, markdown, model_card

Table = dict[tuple[str, str], str]  # (row, variant) → value, change and interval
WIDE = 400
GATES = {
    "min_speedup": 1.2375,
    "max_perplexity_ratio": 2.5,
    "max_kl": 0.5,
    "min_top1_agreement": 0.5,
    "max_accuracy_drop": 0.0800001,
    "max_exact_match_drop": 0.3,
    "min_same_text": 0.55,
    "max_repetition": 0.1,
    "min_sample_length": 41,
    "max_parameters": 113_275_007,
    "max_bytes": 453_130_000,
}


def plain_report() -> Report:
    return make_one(gates=GATES)


def large_report() -> Report:
    """Of a model that came as a file, and with quantised variants, judged by its medians."""
    found: Benchmarks = benchmarks()
    last = found.variants[-1]
    more = [last.model_copy(update={"variant": f"recovered-{name}"}) for name in ("int8", "int4-g64")]
    quantised = Quantised(
        variants=[
            QuantisedVariant(
                name="int8",
                kind="int8",
                options={},
                path="int8",
                bytes=1,
                quantised_parameters=9,
                other_parameters=1,
                bits_per_weight=8.25,
                relative_error=0.0123,
                seconds=2,
            )
        ],
        seconds=2,
    )
    before = plain_report()
    model = before.model.model_copy(update={"file": SourceFile(bytes=98_900_000, type="Q4_1")})
    file = PrunedFile(path="m.gguf", bytes_before=98_900_000, bytes_after=80_100_000)
    return make_one(
        gates={**GATES, "judge": "median"},
        benchmarks=found.model_copy(update={"variants": [*found.variants, *more]}),
        pruned=before.pruned.model_copy(update={"model": model, "gguf": file}),
        recovered=recovered(gguf=file),
        quantised=quantised,
    )


MakeOne = Callable[[], Report]
BOTH = pytest.mark.parametrize("make", [plain_report, large_report])


class Page(HTMLParser):
    """The words of each element that has a class or a column, and all of them."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.rows: list[list[str]] = []
        self.words: list[str] = []
        self._skipped = 0
        self._open = False  # whether a cell is
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._skipped += tag in ("style", "svg", "pre")
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
            self._open = True
        elif tag in ("small", "span", "strong") and self._open:
            self.rows[-1][-1] += " "

    def handle_endtag(self, tag: str) -> None:
        self._skipped -= tag in ("style", "svg", "pre")
        self._open = self._open and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._skipped:
            return
        self.words.append(data)
        if self._open:
            self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return squeezed(" ".join(self.words))


def squeezed(text: str) -> str:
    return " ".join(text.split())


def expected(report: Report, *, short: bool) -> Table:
    """The rows as they should stand, made by hand of nothing but strings."""
    return {
        (f"{row.label}, {group.place}" if group.place else row.label, m.variant): squeezed(
            f"{cell.value} {cell.change} {cell.interval}"
        )
        for group in groups(report)
        for row in group.rows
        if row.short or not short
        for m, cell in zip(report.benchmarks.variants, row.cells, strict=True)
    }


def of_page(report: Report) -> Table:
    table: Table = {}
    place = ""
    names = [m.variant for m in report.benchmarks.variants]
    hows = {row.label: row.how for group in groups(report) for row in group.rows}
    heads = {squeezed(f"{group.heading} {group.how}"): group.place for group in groups(report)}
    rows = Page(html.render(report)).rows
    start = next(i for i, row in enumerate(rows) if row[:1] == ["Figure"])
    for row in rows[start + 1 :]:
        head, *cells = map(squeezed, row)
        if not cells:
            place = heads[head]
            continue
        label = next(
            label
            for label in hows
            if head in (label, squeezed(f"{label} {hows[label]}")) or head.startswith(f"{label} ")
        )
        for name, cell in zip(names, cells, strict=True):
            table[f"{label}, {place}" if place else label, name] = cell
    return table


def of_markdown(text: str) -> Table:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[squeezed(cell) for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    names = [name.replace("\\", "") for name in rows[0][1:]]
    table: Table = {}
    for label, *cells in rows[2:]:
        if len(cells) != len(names) or label == "Gate":
            break
        for name, cell in zip(names, cells, strict=True):
            words = re.sub(r"</?sub>", "", cell)
            table[label.replace("\\", ""), name] = words
    return table


def of_terminal(report: Report, width: int) -> tuple[str, Table]:
    """The text, and its tables, read by their columns."""
    console = Console(file=StringIO(), width=width, color_system=None)
    for lines in report_lines(report, width=width):
        console.print(lines)
    assert isinstance(console.file, StringIO)
    text = console.file.getvalue()
    assert max(len(line) for line in text.splitlines()) <= width
    labels = [row.label for group in groups(report) for row in group.rows]
    variants = {m.variant for m in report.benchmarks.variants}
    places = {group.heading: group.place for group in groups(report)}
    table: Table = {}
    part: Table = {}  # of several in which a group is shown, each with the original
    names: list[str] = []
    place = key = ""
    for line in text.splitlines():
        head, *cells = [line[:LABELS].strip(), *(squeezed(c) for c in re.findall(f".{{1,{COLUMN}}}", line[LABELS:]))]
        if line.strip() in places:
            place, names = places[line.strip()], []
        elif not head and cells and {cell for cell in cells if cell} <= variants:
            names = cells
            assert all(table.get(shown, cell) == cell for shown, cell in part.items())
            table, part = table | part, {}
        elif names and line.startswith("What was done"):
            break
        elif names:
            if head in labels and cells and cells[0]:
                key = f"{head}, {place}" if place else head
            for name, cell in zip(names, cells, strict=False):
                if name and cell:
                    part[key, name] = squeezed(f"{part.get((key, name), '')} {cell}")
    return text, table | part


def without_commas(table: Table) -> Table:
    """Where the change and the interval stand in one line, a comma is between them; in others, a new line."""
    return {key: value.replace(",", "") for key, value in table.items()}


@BOTH
def test_the_page_has_every_figure(make: MakeOne) -> None:
    report = make()
    assert of_page(report) == expected(report, short=False)


@BOTH
def test_markdown_and_the_card_have_the_main_figures(make: MakeOne) -> None:
    report = make()
    card = model_card.render(pruned=report.pruned, recovered=report.recovered, report=report)
    for text in (markdown.render(report), card[card.index("## What it cost") :]):
        assert without_commas(of_markdown(text)) == without_commas(expected(report, short=True))


@BOTH
@pytest.mark.parametrize("width", [80, 200])
def test_the_terminal_has_every_figure(make: MakeOne, width: int) -> None:
    report = make()
    _, table = of_terminal(report, width)
    assert table == expected(report, short=False)


def dashboard(report: Report) -> str:
    page = templates.get_template("_result.html").render(
        report=report, verdict=verdict_in_words(report), headlines=headlines(report), next_steps=next_steps(report)
    )
    return Page(page).text


@BOTH
def test_first_figures_and_gates_are_the_same_everywhere(make: MakeOne) -> None:
    report = make()
    page, summary = Page(html.render(report)).text, squeezed(markdown.render(report).split("|")[0]).lower()
    terminal = squeezed(of_terminal(report, WIDE)[0])
    assert len(headlines(report)) >= 6
    for headline in headlines(report):
        for text in (page, dashboard(report), terminal):
            assert f"{headline.label} {headline.value} {headline.detail}" in text
        assert f"{headline.label} **{headline.value}**".lower() in summary
    cases = ET.fromstring(junit.render(report).encode()).iter("testcase")
    assert len(report.gates) == len(GATES)
    for gate, case in zip(report.gates, cases, strict=True):
        value, limit, interval = value_in_words(gate), limit_in_words(gate), interval_in_words(gate)
        assert f"{limit} {value} {interval}".strip() in page
        assert squeezed(f"{limit} | {value} {interval}") in squeezed(re.sub("</?sub>", "", markdown.render(report)))
        out = case.findtext("system-out") or ""
        assert f"limit: {limit}" in out
        assert f"measured: {value}" in out
        for text in (dashboard(report), terminal, out):
            assert gate.message in text


@BOTH
def test_no_form_has_numbers_of_its_own(make: MakeOne) -> None:
    """Every figure with a unit that a form shows is a number that the page shows too."""
    report = make()
    page = Page(html.render(report)).text
    number = r"\d[\d,]*(?:\.\d+)?"
    figure = re.compile(rf"({number}) ?(?:×|%|[kMGT]?B|µs|ms|s|points)(?!\w)")
    known = set(re.findall(number, page))
    card = model_card.render(pruned=report.pruned, recovered=report.recovered, report=report)
    forms: dict[str, Any] = {
        "markdown": markdown.render(report),
        "card": card,
        "terminal": of_terminal(report, WIDE)[0],
        "dashboard": dashboard(report),
    }
    for name, text in forms.items():
        words = re.sub("</?sub>|<br>", " ", text)
        found = set(figure.findall(words))
        assert len(found) > 10, name
        assert found <= known, name
        assert not re.search(r"\d[eE][+-]?\d|[KMGT]iB", re.sub(r"`[^`]*`", "", words)), name
