"""The model card: README.md of a pruned checkpoint, with the hub's metadata.

It is written when the checkpoint is, from what is known then, and again by the report with what was measured. Whoever
finds the folder without the job sees what was removed, by which rule, and what that cost.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from secateur.contract import numbers as n
from secateur.contract.between import ModelBetween
from secateur.contract.catalog import CRITERIA, PRUNERS, QUANTISATIONS, RECOVERIES, Row
from secateur.contract.readings import text_amount
from secateur.contract.report import Report
from secateur.contract.results import Pruned, QuantisedVariant, Recovered, Scored
from secateur.report.loading import LOADER, transformers_code
from secateur.report.markdown_text import code, escape, prose
from secateur.report.text import block_list, one_line, plural, printable
from secateur.report.words import (
    between_in_words,
    counts_in_words,
    experts_in_words,
    quantised_in_words,
    sizes_in_words,
    units_in_words,
    vocabulary_in_words,
    widths_in_words,
)
from secateur.whole_files import write_whole
from workers.reporting.hub_licences import licence_entries
from workers.reporting.markdown import figures_table

FILE = "README.md"


def write(
    folder: Path,
    *,
    pruned: Pruned,
    scores: Scored | None = None,
    recovered: Recovered | None = None,
    between: ModelBetween | None = None,
    quantised: QuantisedVariant | None = None,
    report: Report | None = None,
) -> Path:
    """Write the card into the checkpoint's folder, over one that is there, and return its path."""
    path = folder / FILE
    about: dict[str, Any] = {"scores": scores, "recovered": recovered, "between": between, "quantised": quantised}
    write_whole(path, render(pruned=pruned, **about, report=report))
    return path


def render(
    *,
    pruned: Pruned,
    scores: Scored | None = None,
    recovered: Recovered | None = None,
    between: ModelBetween | None = None,
    quantised: QuantisedVariant | None = None,
    report: Report | None = None,
) -> str:
    """The card's text. Without `report`, it says that quality and speed are not known yet."""
    parts = [
        _metadata(pruned, recovered, quantised),
        f"# {escape(one_line(pruned.model.id.rstrip('/').rsplit('/', 1)[-1]))}, pruned",
        _lead(pruned, recovered),
        "## What was removed\n\n" + "\n".join(f"- {line}" for line in _removed(pruned, scores, report)),
    ]
    if recovered:
        parts.append("## Recovery\n\n" + "\n".join(f"- {line}" for line in _recovery(recovered)))
    if between:
        parts.append(f"## Put back\n\n- {between_in_words(between)}")
    if quantised:
        parts.append("## Quantisation\n\n" + "\n".join(f"- {line}" for line in _quantisation(quantised)))
    parts.append(f"## What it cost\n\n{_cost(report)}")
    parts.append(f"## Use\n\n{_use(pruned)}")
    notes = report.notes if report else [*pruned.notes, *(recovered.notes if recovered else [])]
    if notes:
        parts.append("## Mind\n\n" + "\n".join(f"- {prose(note)}" for note in dict.fromkeys(notes)))
    return "\n\n".join(parts) + "\n"


def _metadata(pruned: Pruned, recovered: Recovered | None, quantised: QuantisedVariant | None) -> str:
    """YAML front matter. Strings are written as JSON, which YAML reads, so no foreign text can break out."""
    from_hub = pruned.model.revision is not None
    tags = ["secateur", "pruned", f"{pruned.kind.replace('_', '-')}-pruning", pruned.model.family]
    entries: list[tuple[str, str | list[str]]] = []
    if licence := pruned.model.licence:
        entries += licence_entries(licence, pruned.model)
    if from_hub:
        entries.append(("base_model", pruned.model.id))
        if quantised:
            entries.append(("base_model_relation", "quantized"))
    if pruned.decilm or not pruned.needs_loader:
        entries.append(("library_name", "transformers"))
    entries.append(("pipeline_tag", "text-generation"))
    if recovered and recovered.text and recovered.text.source in ("hub", "named"):
        entries.append(("datasets", [recovered.text.identity]))
    entries.append(("tags", tags))
    lines = []
    for key, value in entries:
        if isinstance(value, str):
            lines.append(f"{key}: {_yaml(value)}")
        else:
            lines += [f"{key}:", *(f"- {_yaml(item)}" for item in value)]
    return "\n".join(["---", *lines, "---"])


def _yaml(value: str) -> str:
    return json.dumps(printable(value), ensure_ascii=False)


def _lead(pruned: Pruned, recovered: Recovered | None) -> str:
    model = pruned.model
    revision = f" at revision {code(model.revision)}" if model.revision else ""
    text = (
        f"Made from {code(model.id)}{revision} ({escape(model.family)}, {plural(model.blocks, 'block')}) by structured "
        "pruning with Secateur"
    )
    text += f", then recovered by {_title(RECOVERIES, recovered.kind)}." if recovered else ", without recovery."
    licence = f", {code(model.licence.title or model.licence.name)}," if model.licence else ""
    return f"{text} The licence of the original{licence} holds for it too."


def _removed(pruned: Pruned, scores: Scored | None, report: Report | None) -> list[str]:
    row = PRUNERS.get(pruned.kind)
    lines = [f"Method: {_title(PRUNERS, pruned.kind)}" + (f" ({row.paper})" if row else "")]
    if pruned.units:
        lines.append(f"Halves of blocks removed: {units_in_words(pruned)}")
    if pruned.dropped:
        lines.append(f"Blocks removed: {block_list(pruned.dropped)} of 0–{pruned.model.blocks - 1}")
    if pruned.widths:
        lines.append(f"Left: {widths_in_words(pruned)}")
    if pruned.experts:
        lines.append(f"Left: {escape(experts_in_words(pruned.experts))}")
    if pruned.vocabulary:
        lines.append(f"Left: {escape(vocabulary_in_words(pruned.vocabulary))}")
    if pruned.calibration:
        lines.append(f"Calibration: {escape(pruned.calibration.description)}, {text_amount(pruned.calibration)}")
    if scores:
        criterion = CRITERIA.get(scores.criterion)
        chosen = report.chosen if report else None
        lines.append(
            f"Chosen by: {_title(CRITERIA, scores.criterion)}"
            + (f" ({criterion.paper})" if criterion else "")
            + (f", of {plural(len(chosen.candidates), 'set')} compared after healing" if chosen else "")
        )
        if scores.calibration:
            lines.append(f"Calibration: {escape(scores.calibration.description)}, {text_amount(scores.calibration)}")
    lines.append(f"Parameters: {counts_in_words(pruned.parameters_before, pruned.parameters_after)}")
    lines.append(f"Weights on disk: {sizes_in_words(pruned.bytes_before, pruned.bytes_after)}")
    return lines


def _recovery(recovered: Recovered) -> list[str]:
    lines = [
        f"Method: {_title(RECOVERIES, recovered.kind)}, {recovered.steps:,} steps, {n.count(recovered.tokens)} tokens, "
        f"{n.count(recovered.trainable_parameters)} trainable parameters"
    ]
    if recovered.text:
        lines.append(f"Text: {escape(recovered.text.description)}, {text_amount(recovered.text)}")
    return lines


def _quantisation(quantised: QuantisedVariant) -> list[str]:
    return [
        f"Method: {_title(QUANTISATIONS, quantised.kind)}, {escape(quantised_in_words(quantised))}",
        "Loading a quantised checkpoint with transformers needs the package `compressed-tensors`.",
    ]


def _cost(report: Report | None) -> str:
    if report is None:
        return "Quality and speed had not been measured when this card was written; the job's report has them."
    machine = report.benchmarks.environment
    return (
        f"{figures_table(report)}\n\nMeasured on {escape(machine.device_name)}, {escape(machine.dtype)}; small: change "
        "against the original, and 95 % intervals."
    )


def _use(pruned: Pruned) -> str:
    if pruned.decilm:
        return (
            "Some blocks have lost a half, so the checkpoint has the config of DeciLM. "
            f"transformers loads it by the file `{LOADER}.py` in this folder, which it runs only when told to:\n\n"
            f"```python\n{transformers_code('.', remote_code=True)}```\n\n"
            "vLLM has a model class of its own for that config."
        )
    if pruned.needs_loader:
        return (
            "Plain transformers cannot load this checkpoint, since its config cannot say what its blocks look like. "
            f"The file `{LOADER}.py` in this folder can; it needs nothing but torch and transformers.\n\n"
            f'```python\nfrom {LOADER} import load\n\nmodel = load(".")\n```'
        )
    return (
        "The checkpoint is of the original's architecture and loads as it is.\n\n"
        f"```python\n{transformers_code('.')}```"
    )


def _title(table: Mapping[str, Row], name: str) -> str:
    row = table.get(name)
    return row.title if row else escape(name)
