"""The report as one HTML file: no script, no font, no picture and no style that is not in it.

A content security policy in the page forbids everything but its own style, so that even a hole in the escaping could
load and run nothing. It follows the reader's light or dark setting, folds for a phone, and prints.
"""

from __future__ import annotations

import json
from datetime import UTC
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from secateur.contract.catalog import CRITERIA, PRUNERS, QUANTISATIONS, RECOVERIES, Row
from secateur.contract.results import Environment as Machine
from secateur.contract.results import GateResult, Pruned, Report, TextInfo
from workers.reporting import numbers as n
from workers.reporting.gates import limit_in_words, value_in_words, verdict_in_words
from workers.reporting.picture import LegendEntry, Picture
from workers.reporting.plots import pictures
from workers.reporting.summary import (
    change_in_words,
    cut_in_words,
    gguf_in_words,
    groups,
    headlines,
    quantised_in_words,
    recovered_file_in_words,
    schedule_in_words,
    text_amount,
    units_in_words,
    widths_in_words,
)
from workers.reporting.text import block_list, one_line, printable


def render(report: Report, *, public_url: str | None = None) -> str:
    """The whole page. `public_url`, where the service can be reached, makes the links to the other forms absolute."""
    page = _ENVIRONMENT.get_template("report.html.j2")
    base = f"{public_url.rstrip('/')}/jobs/{report.job_id}/" if public_url else ""
    return page.render(
        report=report,
        title=one_line(report.model.id),
        subtitle=_subtitle(report),
        verdict=verdict_in_words(report),
        headlines=headlines(report),
        gates=[_gate(gate) for gate in report.gates],
        variants=[m.variant for m in report.benchmarks.variants],
        groups=groups(report),
        pictures=[_picture(picture) for picture in pictures(report)],
        samples=_samples(report),
        work=_work(report),
        texts=_texts(report),
        machines=_machines(report),
        spec=json.dumps(report.spec, indent=2, ensure_ascii=False),
        labels=report.spec.get("labels") or {},
        created=report.created_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        links={name: base + quote(f"report.{name}") for name in ("json", "md", "junit.xml")},
        artifacts=f"{base}artifacts" if base else None,
        version=report.benchmarks.environment.versions.get("secateur"),
    )


def _subtitle(report: Report) -> str:
    words = change_in_words(report)
    if report.recovered is None:
        return f"{words}, no recovery"
    return f"{words}, recovered by {_title(RECOVERIES.get(report.recovered.kind), report.recovered.kind)}"


def _title(row: Row | None, name: str) -> str:
    return row.title if row else one_line(name, limit=60)


def _gate(gate: GateResult) -> dict[str, Any]:
    return {
        "name": gate.gate,
        "metric": gate.metric,
        "limit": limit_in_words(gate),
        "value": value_in_words(gate),
        "interval": n.span(gate.low, gate.high, 4),
        "passed": gate.passed,
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


def _work(report: Report) -> list[tuple[str, str]]:
    """What was done, as terms and descriptions."""
    pruned, scores, recovered = report.pruned, report.scores, report.recovered
    method = PRUNERS.get(pruned.kind)
    source = f" ({method.paper})" if method and (pruned.widths or pruned.units) else ""
    rows = [("Pruning", f"{_title(method, pruned.kind)}{source}, {n.duration(pruned.seconds)}")]
    if pruned.units:
        rows.append(("Halves of blocks removed", units_in_words(pruned)))
    if pruned.dropped:
        rows.append(("Blocks removed", block_list(pruned.dropped)))
    rows += _search(pruned)
    if pruned.gguf:
        rows.append(("Pruned GGUF file", gguf_in_words(pruned.gguf)))
    if recovered and recovered.gguf:
        rows.append(("Recovered GGUF file", recovered_file_in_words(recovered.gguf)))
    if pruned.widths:
        rows.append(("Left", widths_in_words(pruned)))
    if scores:
        row = CRITERIA.get(scores.criterion)
        paper = f" ({row.paper})" if row else ""
        rows.append(("Criterion", f"{_title(row, scores.criterion)}{paper}, {n.duration(scores.seconds)}"))
        rows.append(("Order, least important first", ", ".join(map(str, scores.order))))
        if scores.protected:
            rows.append(("Protected", block_list(scores.protected)))
    elif pruned.units and pruned.unit_scores is None:
        rows.append(("Criterion", "none: the halves were named in the job"))
    elif pruned.dropped and pruned.unit_scores is None:
        rows.append(("Criterion", "none: the blocks were named in the job"))
    if recovered:
        options = {key: value for key, value in recovered.options.items() if key not in ("kind", "text")}
        rows.append(
            (
                "Recovery",
                f"{_title(RECOVERIES.get(recovered.kind), recovered.kind)}, {recovered.steps:,} steps, "
                f"{n.short_count(recovered.tokens)} tokens, {n.short_count(recovered.trainable_parameters)} trainable "
                f"parameters, {n.duration(recovered.seconds)}",
            )
        )
        if recovered.schedule:
            rows.append(("Learning rate", schedule_in_words(recovered.schedule)))
        rows += [(f"Healing after block {cut.block}", cut_in_words(cut)) for cut in recovered.healing]
        rows.append(("Recovery's options", ", ".join(f"{key} {_option(value)}" for key, value in options.items())))
    rows.append(("Measured in", n.duration(report.benchmarks.seconds)))
    rows.append(("Seed", str(report.spec.get("seed", 0))))
    for variant in report.quantised.variants if report.quantised else []:
        how = f"{_title(QUANTISATIONS.get(variant.kind), variant.kind)}, {quantised_in_words(variant)}"
        rows.append((f"Quantised as {variant.name}", f"{how}, {n.duration(variant.seconds)}"))
    return [(term, printable(words)) for term, words in rows]


def _search(pruned: Pruned) -> list[tuple[str, str]]:
    """How the halves that went were found."""
    scores = pruned.unit_scores
    if scores is None:
        return []
    rows = [
        ("Search", f"{len(scores.details.get('rounds', []))} rounds, {n.duration(scores.seconds)}"),
        ("Order, least important first", ", ".join(scores.order)),
    ]
    if scores.protected:
        rows.append(("Protected", ", ".join(scores.protected)))
    return rows


def _option(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "unset"}[value]
    if isinstance(value, float):
        return f"{value:g}"
    return one_line(str(value), limit=80)


def _texts(report: Report) -> list[dict[str, str]]:
    """Every text that was used, and what for."""
    used: dict[str, tuple[TextInfo, list[str]]] = {}

    def add(text: TextInfo | None, purpose: str) -> None:
        if text is not None:
            purposes = used.setdefault(text.sha256, (text, []))[1]
            if purpose not in purposes:
                purposes.append(purpose)

    add(report.scores.calibration if report.scores else None, "calibration")
    add(report.pruned.calibration, "calibration")
    add(report.recovered.text if report.recovered else None, "training")
    for m in report.benchmarks.variants:
        for p in m.perplexity:
            add(p.text, "perplexity")
        for f in m.fidelity:
            add(f.text, "fidelity")
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
    if report.pruned.unit_scores:
        stages.append(("search", report.pruned.unit_scores.environment))
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
            "versions": ", ".join(f"{name} {version}" for name, version in sorted(machine.versions.items())),
        }
        for machine, names in together
    ]


_ENVIRONMENT = Environment(
    loader=PackageLoader("workers.reporting"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    finalize=lambda value: printable(value) if type(value) is str else value,
)
