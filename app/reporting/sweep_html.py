"""A sweep's report as one HTML file, as that of a job is: no script, no font and no style that is not in it.

Its table is sorted without a script: each heading is a radio button, and each row has its rank by every column, by
which the style orders the rows.
"""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from app.page_templates import page_templates
from secateur.about import VERSION
from secateur.contract.metric_row import uncapitalised
from secateur.contract.metrics import METRICS
from secateur.contract.numbers import duration, moment
from secateur.contract.options.gates import GATES
from secateur.contract.sweep import words_among
from secateur.contract.sweep_report import SweepReport
from secateur.report import page_style, plot_style
from secateur.report.picture import Picture
from secateur.report.plot_pareto import pareto
from secateur.report.plot_throughput import throughput
from secateur.report.sweep_forms import HTML, SWEEP_FORMS
from secateur.report.sweep_table import sweep_table
from secateur.report.sweep_words import counted, kind_title, saved_in_words, verdict_in_words
from secateur.report.text import one_line

_TEMPLATES = page_templates("app.reporting")


def render(report: SweepReport, *, public_url: str | None = None) -> str:
    """The whole page. `public_url`, where the service can be reached, makes the links absolute."""
    base = public_url.rstrip("/") if public_url else ""
    here = f"{base}/sweeps/{report.sweep_id}" if base else "."
    plot = pareto(report)
    return _TEMPLATES.get_template("sweep.html.j2").render(
        report=report,
        page_style=Markup(page_style.STYLE),
        plot_style=Markup(plot_style.STYLE),
        title=one_line(report.model),
        subtitle=counted(report),
        verdict=verdict_in_words(report),
        table=sweep_table(report),
        recommended=_recommended(report),
        picture=_picture(plot) if plot else None,
        panels=[_picture(panel) for panel in throughput(report)],
        gates=[
            {"name": name, "limit": GATES[name].judged_format.typed(limit)}
            for name in GATES
            if (limit := report.gates.get(name)) is not None
        ],
        judge=report.gates.get("judge"),
        saved=saved_in_words(report),
        shared=[
            {
                "title": kind_title(shared),
                "computed": shared.computed,
                "taken_over": shared.taken_over,
                "saved": duration(shared.seconds_saved) if shared.seconds_saved else "",
            }
            for shared in report.shared
        ],
        others=_other_pairs(report),
        created=moment(report.created_at),
        jobs=f"{base}/ui/jobs" if base else "/ui/jobs",
        links={
            form.title: f"{here}/{form.file}?x={report.x.metric}&y={report.y.metric}"
            for form in SWEEP_FORMS.values()
            if form is not HTML
        },
        version=VERSION,
    )


def _recommended(report: SweepReport) -> str | None:
    """The recommended point in words."""
    told = zip(report.points, words_among([point.changes for point in report.points]), strict=True)
    return next((words for point, words in told if point.place == report.recommended), None)


def _other_pairs(report: SweepReport) -> list[dict[str, str]]:
    """By what else these points can be held against the x: each of the figures that they have."""
    there = {name for point in report.points for name in point.figures} - {report.x.metric, report.y.metric}
    return [
        {"title": uncapitalised(metric.label), "link": f"{HTML.file}?x={report.x.metric}&y={metric.name}"}
        for metric in METRICS.values()
        if metric.name in there and metric.headline
    ]


def _picture(picture: Picture) -> dict[str, Any]:
    return {
        "key": picture.key,
        "title": picture.title,
        "caption": picture.caption,
        # drawn by svg.py, which escapes every text and attribute that it writes
        "drawings": [Markup(drawing) for drawing in picture.drawings],
        "legend": [{"glyph": Markup(entry.glyph), "words": entry.words} for entry in picture.legend],
    }
