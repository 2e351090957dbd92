"""The report as Markdown for a pull request: the verdict first, one table, the gates, what to mind.

Every foreign word is either in a code span or escaped (`secateur/report/markdown_text.py`).
"""

from __future__ import annotations

from secateur.contract.metric_row import uncapitalised
from secateur.contract.numbers import moment
from secateur.contract.report import GateResult, Report
from secateur.report.draft_lines import DRAFT_KEY
from secateur.report.figures import Cell, groups, headlines
from secateur.report.forms import FORMS, HTML, MARKDOWN
from secateur.report.gates import (
    interval_in_words,
    limit_in_words,
    result_in_words,
    value_in_words,
    verdict_in_words,
)
from secateur.report.loading import ways_to_load
from secateur.report.markdown_text import SIGNS, code, escape, prose
from secateur.report.next_steps import next_steps
from secateur.report.text import block_list, plural
from secateur.report.words import (
    between_in_words,
    change_in_words,
    choice_in_words,
    draft_in_words,
    experts_in_words,
    foreseen_in_words,
    gguf_in_words,
    quantised_in_words,
    recovered_file_in_words,
    rounds_in_words,
    search_in_words,
    units_in_words,
    vocabulary_in_words,
    widths_in_words,
)


def render(report: Report, *, public_url: str | None = None) -> str:
    """The whole text. `public_url`, where the service can be reached, adds links to the other forms."""
    parts = [
        f"## {SIGNS[report.verdict]} {verdict_in_words(report)}",
        f"{code(report.model.id)}: {_summary(report)}.",
        figures_table(report),
    ]
    if report.gates:
        parts.append(_gates(report.gates))
    if report.notes:
        parts.append("**Mind when reading**\n\n" + "\n".join(f"- {prose(note)}" for note in report.notes))
    if steps := next_steps(report):
        parts.append("**What to try next**\n\n" + "\n".join(f"- {prose(step)}" for step in steps))
    parts += [_details(report), *_as_a_draft(report), _footer(report, public_url)]
    return "\n\n".join(parts) + "\n"


def _summary(report: Report) -> str:
    """What was removed, and what that gave and cost: "6 of 30 blocks removed, parameters **−15.8 %**, …"."""
    found = [f"{uncapitalised(headline.label)} **{headline.value}**" for headline in headlines(report)]
    return ", ".join([change_in_words(report), *found])


def figures_table(report: Report) -> str:
    """The main figures, a column per variant."""
    variants = [m.variant for m in report.benchmarks.variants]
    lines = [
        "| | " + " | ".join(escape(name) for name in variants) + " |",
        "|:--|" + "--:|" * len(variants),
    ]
    for group in groups(report):
        for row in group.rows:
            if row.short:
                label = f"{row.label}, {group.place}" if group.place else row.label
                lines.append(f"| {escape(label)} | " + " | ".join(_cell(cell) for cell in row.cells) + " |")
    return "\n".join(lines)


def _cell(cell: Cell) -> str:
    return f"{cell.value} <sub>{cell.beside}</sub>" if cell.beside else cell.value


def _gates(gates: list[GateResult]) -> str:
    lines = ["| Gate | Limit | Measured | |", "|:--|:--|:--|:--|"]
    for gate in gates:
        interval = interval_in_words(gate)
        value = f"{value_in_words(gate)} <sub>{interval}</sub>" if interval else value_in_words(gate)
        result = f"{'✅' if gate.passed else '❌'} {result_in_words(gate)}"
        lines.append(
            f"| {code(gate.gate)} <sub>{escape(gate.metric)}</sub> | {limit_in_words(gate)} | {value} | {result} |"
        )
    return "\n".join(lines)


def _details(report: Report) -> str:
    machine = report.benchmarks.environment
    versions = ", ".join(f"{name} {version}" for name, version in sorted(machine.versions.items()))
    lines = []
    if report.pruned.units:
        lines.append(f"- Halves of blocks removed: {units_in_words(report.pruned)}")
    if report.pruned.dropped:
        lines.append(f"- Blocks removed: {block_list(report.pruned.dropped)} of {report.pruned.model.blocks}")
    if report.drafted:
        lines.append(f"- Depth of the draft: {escape(draft_in_words(report.drafted))}")
    if report.searched:
        lines.append(f"- Constraints: {escape(search_in_words(report.searched))}")
        lines.append(f"- Foreseen and come: {escape(foreseen_in_words(report))}")
    if report.chosen:
        lines.append(f"- Chosen after healing: {escape(choice_in_words(report.chosen))}")
    if report.target:
        lines.append(f"- Target: {escape(report.target.message)}")
    if report.corrected:
        lines.append(f"- Correction: {escape(rounds_in_words(report))}")
    if report.pruned.gguf:
        lines.append(f"- Pruned GGUF file: {escape(gguf_in_words(report.pruned.gguf, number=report.round))}")
    if report.recovered and report.recovered.gguf:
        lines.append(
            f"- Recovered GGUF file: {escape(recovered_file_in_words(report.recovered.gguf, number=report.round))}"
        )
    if report.pruned.widths:
        lines.append(f"- Left: {widths_in_words(report.pruned)}")
    if report.pruned.experts:
        lines.append(f"- Left: {escape(experts_in_words(report.pruned.experts))}")
    if report.pruned.vocabulary:
        lines.append(f"- Left: {escape(vocabulary_in_words(report.pruned.vocabulary))}")
    for model in report.between.models if report.between else []:
        lines.append(f"- In between, {escape(model.name)}: {escape(between_in_words(model))}")
    for variant in report.quantised.variants if report.quantised else []:
        lines.append(f"- Quantised as {escape(variant.name)}: {escape(quantised_in_words(variant))}")
    lines.append(
        f"- Measured on {escape(machine.device_name)} ({escape(machine.device)}), {escape(machine.dtype)}, "
        f"{plural(machine.threads, 'thread')}, {escape(machine.platform)}, "
        f"Python {escape(machine.python)}, {escape(versions)}"
    )
    for group in groups(report):
        lines.append(f"- {escape(group.heading)}: {escape(group.how)}")
    return "<details><summary>How it was measured</summary>\n\n" + "\n".join(lines) + "\n\n</details>"


def _as_a_draft(report: Report) -> list[str]:
    """The lines that put a draft beside its target."""
    ways = ways_to_load(report.job_id, report.pruned, report.recovered, spec=report.spec, number=report.round)
    lines = [f"{escape(way.title)}:\n\n```\n{way.code}```" for way in ways if way.key.startswith(DRAFT_KEY)]
    if not lines:
        return []
    return ["<details><summary>How to draft with it</summary>\n\n" + "\n\n".join(lines) + "\n\n</details>"]


def _footer(report: Report, public_url: str | None) -> str:
    created = moment(report.created_at)
    labels = "".join(f" · {code(f'{name}={value}')}" for name, value in (report.spec.get("labels") or {}).items())
    text = f"<sub>Job `{report.job_id}` of {created}{labels}</sub>"
    if public_url is None:
        return text
    base = f"{public_url.rstrip('/')}/jobs/{report.job_id}"
    others = ((form.title, form.file) for form in FORMS.values() if form not in (HTML, MARKDOWN))
    links = (("Full report", HTML.file), *others, ("Artifacts", "artifacts"))
    return " · ".join(f"[{words}](<{base}/{path}>)" for words, path in links) + "\n\n" + text
