"""The report as one HTML file: no script, no font, no picture and no style that is not in it.

A content security policy in the page forbids everything but its own style, so that even a hole in the escaping could
load and run nothing. It follows the reader's light or dark setting, folds for a phone, and prints.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from app.page_templates import page_templates
from secateur.contract.catalog import RECOVERIES
from secateur.contract.numbers import moment
from secateur.contract.readings import text_amount
from secateur.contract.report import GateResult, Report
from secateur.contract.results import Environment as Machine
from secateur.contract.results import TextInfo
from secateur.report import page_style, plot_style
from secateur.report.figures import groups, headlines
from secateur.report.forms import FORMS, HTML
from secateur.report.gates import (
    interval_in_words,
    limit_in_words,
    result_in_words,
    value_in_words,
    verdict_in_words,
)
from secateur.report.loading import ways_to_load
from secateur.report.next_steps import next_steps
from secateur.report.picture import LegendEntry, Picture
from secateur.report.plots import pictures
from secateur.report.text import one_line
from secateur.report.words import change_in_words
from secateur.report.work import machine_in_words, title_of, work_in_words
from workers.reporting.notes import measurement

_TEMPLATES = page_templates("workers.reporting")


def render(report: Report, *, public_url: str | None = None) -> str:
    """The whole page. `public_url`, where the service can be reached, makes the links to the other forms absolute."""
    page = _TEMPLATES.get_template("report.html.j2")
    base = f"{public_url.rstrip('/')}/jobs/{report.job_id}/" if public_url else ""
    return page.render(
        report=report,
        page_style=Markup(page_style.STYLE),
        plot_style=Markup(plot_style.STYLE),
        title=one_line(report.model.id),
        subtitle=_subtitle(report),
        verdict=verdict_in_words(report),
        headlines=headlines(report),
        next_steps=next_steps(report),
        gates=[_gate(gate) for gate in report.gates],
        variants=[m.variant for m in report.benchmarks.variants],
        groups=groups(report),
        pictures=[_picture(picture) for picture in pictures(report)],
        samples=_samples(report),
        ways=ways_to_load(
            report.job_id,
            report.pruned,
            report.recovered,
            spec=report.spec,
            measured=measurement(report, report.final_variant),
            number=report.round,
        ),
        work=work_in_words(report),
        texts=_texts(report),
        machines=_machines(report),
        spec=json.dumps(report.spec, indent=2, ensure_ascii=False),
        labels=report.spec.get("labels") or {},
        created=moment(report.created_at),
        links={form.title: base + quote(form.file) for form in FORMS.values() if form is not HTML},
        artifacts=f"{base}artifacts" if base else None,
        version=report.benchmarks.environment.versions.get("secateur"),
    )


def _subtitle(report: Report) -> str:
    words = change_in_words(report)
    if report.recovered is None:
        return f"{words}, no recovery"
    return f"{words}, recovered by {title_of(RECOVERIES, report.recovered.kind)}"


def _gate(gate: GateResult) -> dict[str, Any]:
    return {
        "name": gate.gate,
        "metric": gate.metric,
        "limit": limit_in_words(gate),
        "value": value_in_words(gate),
        "interval": interval_in_words(gate),
        "passed": gate.passed,
        "result": result_in_words(gate),
    }


def _picture(picture: Picture) -> dict[str, Any]:
    return {
        "key": picture.key,
        "title": picture.title,
        "caption": picture.caption,
        # drawn by svg.py, which escapes every text and attribute that it writes
        "drawings": [Markup(drawing) for drawing in picture.drawings],
        "half": picture.half,
        "legend": [_legend(entry) for entry in picture.legend],
    }


def _legend(entry: LegendEntry) -> dict[str, Any]:
    return {"glyph": Markup(entry.glyph), "words": entry.words}


def _samples(report: Report) -> list[dict[str, Any]]:
    """Each prompt once, with every variant's continuation."""
    prompts: dict[str, list[dict[str, str]]] = {}
    for m in report.benchmarks.variants:
        for sample in m.samples:
            prompts.setdefault(sample.prompt, []).append({"variant": m.variant, "text": sample.text.strip()})
    return [{"prompt": prompt, "continuations": texts} for prompt, texts in prompts.items()]


def _texts(report: Report) -> list[dict[str, str]]:
    """Every text that was used, and what for."""
    used: dict[str, tuple[TextInfo, list[str]]] = {}

    def add(text: TextInfo | None, purpose: str) -> None:
        if text is not None:
            purposes = used.setdefault(text.sha256, (text, []))[1]
            if purpose not in purposes:
                purposes.append(purpose)

    add(report.scores.calibration if report.scores else None, "calibration")
    add(report.chosen.text if report.chosen else None, "choice")
    add(report.pruned.calibration, "calibration")
    add(report.recovered.text if report.recovered else None, "training")
    for m in report.benchmarks.variants:
        for p in m.perplexity:
            add(p.text, "perplexity")
        for f in m.fidelity:
            add(f.text, "fidelity")
        for b in m.bits_per_byte:
            add(b.text, "bits per byte")
    return [
        {
            "purpose": ", ".join(purposes),
            "description": text.description,
            "amount": text_amount(text),
            "sha256": text.sha256[:12],
        }
        for text, purposes in used.values()
    ]


def _machines(report: Report) -> list[dict[str, Any]]:
    """Each machine set-up that the stages ran on, stages of one set-up together."""
    stages = [("measurement", report.benchmarks.environment)]
    if report.recovered:
        stages.append(("recovery", report.recovered.environment))
    if report.scores:
        stages.append(("scoring", report.scores.environment))
    if report.chosen:
        stages.append(("choice", report.chosen.environment))
    if report.pruned.unit_scores:
        stages.append(("search", report.pruned.unit_scores.environment))
    if report.pruned.joint:
        stages.append(("search", report.pruned.joint.environment))
    together: list[tuple[Machine, list[str]]] = []
    for name, machine in stages:
        same = next((names for known, names in together if known == machine), None)
        if same is None:
            together.append((machine, [name]))
        else:
            same.append(name)
    return [
        {
            "stages": ", ".join(names),
            "machine": machine,
            "words": machine_in_words(machine),
            "versions": ", ".join(f"{name} {version}" for name, version in sorted(machine.versions.items())),
        }
        for machine, names in together
    ]
